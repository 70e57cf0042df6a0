"""The keys that are valid now, from the settings, files and the database."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from captiond.errors import SettingsError
from captiond.keys import Key
from captiond.messages import Keys
from captiond.settings.config import Settings
from captiond.settings.keyfiles import key_files, named, read_keys
from captiond.store.credentials import stored_keys
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.store.rereading import Rereading

log = structlog.get_logger()
POLL_SECONDS = 0.3  # a revoked key is refused within a second

FileVersion = tuple[int, int, int]  # inode, time of the last change, size


@dataclass(frozen=True, slots=True)
class ReadFile:
    """What a file of keys held when it was read."""

    version: FileVersion | None
    keys: tuple[Key, ...]


class KeyRing:
    """Reads the keys regularly, so that changes need no restart.

    `environ` is the environment, which names the folder of systemd credentials.
    """

    def __init__(self, settings: Settings, engine: Engine, environ: Mapping[str, str]) -> None:
        self._stored = Rereading(engine, stored_keys)
        self._named = named(settings.keys.named)
        self._files = {path: ReadFile(None, ()) for path in key_files(settings.keys, environ)}
        self._open_to_all = settings.server.host not in {"127.0.0.1", "::1", "localhost"}
        self._damaged: tuple[str, ...] = ()
        self.keys = Keys(required=True)

    async def prepare(self) -> None:
        """Read the keys for the first time.

        Raises:
            SettingsError: a file of keys cannot be read, or an entry in it is wrong.
            StoreError: the database cannot be read.
        """
        for path in self._files:
            self._files[path] = ReadFile(version_of(path), read_keys(path))
        self.keys = await self._read()
        if not self.keys.required and self._open_to_all:
            log.warning("no_keys", hint="everyone who reaches this address can use the service")

    async def run(self, publish: Callable[[Keys], None]) -> None:
        """Read the keys until cancelled, and publish each change."""
        outage = StorageOutage("reading the keys")
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with outage.tolerated():
                for path in self._files:
                    self._read_again(path)
                keys = await self._read()
                if keys != self.keys:
                    self.keys = keys
                    log.info("keys_changed", valid=len(keys.keys), required=keys.required)
                    publish(keys)

    async def _read(self) -> Keys:
        stored = await self._stored.look()
        if stored.damaged != self._damaged:
            self._damaged = stored.damaged
            log.error("keys_damaged", ids=stored.damaged, hint="nobody can use these keys")
        in_files = [key for file in self._files.values() for key in file.keys]
        valid = [each.key for each in stored.keys if each.revoked_at is None]
        return Keys(
            (*self._named, *in_files, *valid),
            required=bool(self._named or self._files or stored),
        )

    def _read_again(self, path: Path) -> None:
        """Read a file if it has changed. One that is wrong now keeps the keys that it had."""
        version = version_of(path)
        if version == self._files[path].version:
            return
        try:
            keys = read_keys(path)
        except SettingsError as error:
            log.error("keys_unreadable", reason=str(error))
            keys = self._files[path].keys
        self._files[path] = ReadFile(version, keys)


def version_of(path: Path) -> FileVersion | None:
    """Return what changes with a file's content, or None if the file is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
