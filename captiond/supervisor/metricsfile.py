"""The file of metrics that the supervisor writes when it gets SIGUSR1."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from captiond.recording import Registry

log = structlog.get_logger()


class MetricsFile:
    """Writes the metrics of all processes to a file whenever that is requested.

    The file is replaced as a whole, so a reader that removes it, sends the signal and waits until
    it is there again reads metrics from after the signal. `refresh` brings the registry up to date.
    """

    def __init__(
        self, path: Path, registry: Registry, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._path = path
        self._registry = registry
        self._refresh = refresh
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Have the file written soon."""
        self._requested.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            await self._refresh()
            try:
                await asyncio.to_thread(replace, self._path, self._registry.snapshot())
            except OSError as error:
                log.error("metrics_not_written", path=str(self._path), reason=str(error))


def replace(path: Path, content: object) -> None:
    """Write JSON to a file that has its name only once it is whole."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content), "utf-8")
    part.replace(path)
