"""Where keys come from: the settings, a file, a systemd credential, the database."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from captiond.errors import KeyExists, KeyNotFound, SettingsError
from captiond.keys import HASH_PREFIX, Key, KeyTable, Limits, Scope, digest_of
from captiond.messages import Keys
from captiond.settings.client_settings import KeyEntry, KeySettings
from captiond.settings.config import DataSettings, Settings
from captiond.settings.server_settings import ServerSettings
from captiond.settings.sources import checked, layers_of, origins
from captiond.store.credentials import add_key, delete_key, revoke_key, stored_keys
from captiond.store.engine import Engine, writing
from captiond.supervisor.keyring import KeyRing
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
SECRET, OTHER = "cpd_" + 43 * "a", "cpd_" + 43 * "b"  # the same in all processes of a run
HASH = HASH_PREFIX + digest_of(OTHER.encode()).hex()


def key(name: str, secret: str = SECRET) -> Key:
    return Key(name, digest_of(secret.encode()))


def ring(store: Engine, keys: KeySettings, environ: Mapping[str, str] | None = None) -> KeyRing:
    return KeyRing(Settings(keys=keys), store, environ or {})


def valid(keys: Keys, secret: str) -> bool:
    return KeyTable(keys.keys, required=keys.required).find(secret.encode()) is not None


async def published(keyring: KeyRing, change: Any) -> Keys:
    """Run `change` beside the key ring, and return the keys that follow from it."""
    changes: asyncio.Queue[Keys] = asyncio.Queue()
    running = asyncio.create_task(keyring.run(changes.put_nowait))
    try:
        result = change()
        if asyncio.iscoroutine(result):
            await result
        async with asyncio.timeout(PATIENCE):
            return await changes.get()
    finally:
        running.cancel()


# ---------------------------------------------------------------- the database


async def test_a_stored_key_is_as_it_was(store: Engine) -> None:
    whole = Key(
        "whole",
        digest_of(b"x"),
        frozenset({Scope.METRICS, Scope.ADMIN}),
        weight=2.5,
        share=0.25,
        limits=Limits(1, 0, None, 2**40),
    )
    await add_key(store, whole, now=1.0)
    await add_key(store, key("plain"), now=2.0)
    first, second = (await stored_keys(store)).keys
    assert (first.key, first.created_at, first.revoked_at) == (whole, 1.0, None)
    assert second.key == key("plain")
    with pytest.raises(KeyExists):
        await add_key(store, key("plain", OTHER), now=3.0)


async def test_keys_that_are_revoked_and_deleted(store: Engine) -> None:
    keyring = ring(store, KeySettings())
    await keyring.prepare()
    assert keyring.keys == Keys(required=False)
    created = await published(keyring, lambda: add_key(store, key("a"), now=1.0))
    assert valid(created, SECRET)
    assert created.required
    revoked = await published(keyring, lambda: revoke_key(store, "a", now=2.0))
    assert revoked == Keys(required=True), "a service does not become open with its last key"
    await revoke_key(store, "a", now=3.0)
    assert [each.revoked_at for each in (await stored_keys(store)).keys] == [2.0]
    deleted = await published(keyring, lambda: delete_key(store, "a"))
    assert deleted == Keys(required=False)
    for wrong in (revoke_key(store, "a", now=4.0), delete_key(store, "a")):
        with pytest.raises(KeyNotFound):
            await wrong


@pytest.mark.parametrize(
    "damage",
    [
        "digest = 'x'",
        "digest = ''",
        "scopes = 'x'",
        "scopes = '5'",
        "weight = 'x'",
        "images = 'x'",
        "weight = 0",
        "weight = 9e999",
        "share = -1",
    ],
)
async def test_a_damaged_key_lets_nobody_in_and_harms_no_other(store: Engine, damage: str) -> None:
    await add_key(store, key("a"), now=1.0)
    await add_key(store, key("b", OTHER), now=2.0)
    async with writing(store) as connection:
        await connection.execute(text(f"UPDATE keys SET {damage} WHERE name = 'a'"))
    keyring = ring(store, KeySettings())
    with capture_logs() as logs:
        await keyring.prepare()
        assert not valid(keyring.keys, SECRET)
        assert valid(keyring.keys, OTHER)
        revoked = await published(keyring, lambda: revoke_key(store, "b", now=3.0))
    assert revoked == Keys(required=True)
    (line,) = [entry for entry in logs if entry["event"] == "keys_damaged"]
    assert line["ids"] == (key("a").id,)


# ---------------------------------------------------------------- files


def write(path: Path, text: str) -> Path:
    """Write a file as `mv` does: it is there as a whole."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)
    return path


async def test_a_file_and_a_credential_are_read_again_when_they_change(
    store: Engine, tmp_path: Path
) -> None:
    file = write(tmp_path / "keys.toml", f'[a]\nkey = "{SECRET}"\nscopes = ["read"]\nrequests = 5')
    write(tmp_path / "captiond-keys", f'[b]\nkey = "{HASH}"')
    keyring = ring(store, KeySettings(file=file), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    await keyring.prepare()
    a, b = keyring.keys.keys
    assert (a.name, a.scopes, a.limits) == ("a", frozenset({Scope.READ}), Limits(requests=5))
    assert (b.name, b.digest) == ("b", digest_of(OTHER.encode()))
    changed = await published(keyring, lambda: write(file, ""))
    assert [each.name for each in changed.keys] == ["b"]
    assert changed.required


async def test_a_file_that_becomes_wrong_keeps_its_keys(store: Engine, tmp_path: Path) -> None:
    file = write(tmp_path / "keys.toml", f'[a]\nkey = "{SECRET}"')
    keyring = ring(store, KeySettings(file=file))
    await keyring.prepare()
    write(file, f'[a]\nkey = "{OTHER}')
    with capture_logs() as logs:
        changed = await published(keyring, lambda: add_key(store, key("c", OTHER), now=1.0))
    assert [each.name for each in changed.keys] == ["a", "c"]
    (line,) = [entry for entry in logs if entry["event"] == "keys_unreadable"]
    assert OTHER not in str(line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[a]\nkey = "short-secret"', "a.key: .*at least 32"),
        (f'[a]\nkey = "{SECRET}"\nscopes = ["write"]', "a.scopes.0: "),
        (f'[a]\nkey = "{SECRET}"\nlimit = 5', "a.limit: Extra inputs"),
        ('[a]\nscopes = ["read"]', "a.key: Field required"),
        (f'["a b"]\nkey = "{SECRET}"', "a b: "),
        (f'a = "{SECRET}', "not valid TOML"),
    ],
)
async def test_a_wrong_file_is_an_error_without_the_key(
    store: Engine, tmp_path: Path, text: str, message: str
) -> None:
    file = write(tmp_path / "keys.toml", text)
    with pytest.raises(SettingsError, match=f"{re.escape(str(file))}: {message}") as raised:
        await ring(store, KeySettings(file=file)).prepare()
    assert SECRET not in str(raised.value)
    assert "short-secret" not in str(raised.value)


async def test_a_file_that_is_missing_is_an_error(store: Engine, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        await ring(store, KeySettings(file=tmp_path / "none.toml")).prepare()


# ---------------------------------------------------------------- settings


def settings(**environ: str) -> Settings:
    return checked(layers_of(None, {f"CAPTIOND_KEYS__{k}": v for k, v in environ.items()}, {}))


@pytest.mark.parametrize(
    "environ",
    [
        {"NAMED__FRONTEND": SECRET},
        {"NAMED": f"frontend={SECRET}"},
        {"NAMED": f'{{"frontend": "{SECRET}"}}'},
        {"NAMED__FRONTEND": f'{{"key": "{SECRET}", "scopes": ["caption", "read"]}}'},
    ],
)
async def test_keys_in_the_environment(store: Engine, environ: dict[str, str]) -> None:
    chosen = settings(**environ)
    assert chosen.keys.named["frontend"].named("frontend") == key("frontend")
    keyring = ring(store, chosen.keys)
    await keyring.prepare()
    assert valid(keyring.keys, SECRET)
    assert keyring.keys.required


@pytest.mark.parametrize(
    "environ",
    [
        {"NAMED__FRONTEND": "my-password"},
        {"NAMED": "my-password"},
        {"NAMED": '{"frontend": "my-password"}'},
        {"NAMED": '{"my-password": '},
        {"NAMED__FRONTEND": '{"key": "my-password"'},
        {"NAMED__FRONTEND": '{"key": "my-password", "scope": "read"}'},
        {"NAMED__FRONTEND": '["my-password"]'},
    ],
)
def test_an_error_does_not_show_a_key(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="CAPTIOND_KEYS__NAMED") as raised:
        settings(**environ)
    assert "my-password" not in str(raised.value)


def test_settings_do_not_show_a_key() -> None:
    layers = layers_of(None, {"CAPTIOND_KEYS__NAMED__FRONTEND": SECRET}, {})
    digest = digest_of(SECRET.encode()).hex()
    for shown_text in (
        str([str(origin) for origin in origins(layers)]),
        checked(layers).model_dump_json(),
        repr(checked(layers)),
        repr(KeyEntry(key=SECRET)),
    ):
        assert SECRET not in shown_text
        assert digest not in shown_text
    (shown,) = [origin for origin in origins(layers) if origin.key == "named"]
    assert shown.value == {"frontend": {"key": "***"}}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
@pytest.mark.parametrize("with_key", [False, True])
async def test_an_open_service_on_every_address_warns(
    store: Engine, tmp_path: Path, host: str, *, with_key: bool
) -> None:
    named = {"a": KeyEntry(key=SECRET)} if with_key else {}
    chosen = Settings(
        server=ServerSettings(host=host),
        data=DataSettings(dir=tmp_path),
        keys=KeySettings(named=named),
    )
    with capture_logs() as logs:
        await KeyRing(chosen, store, os.environ).prepare()
    warned = [entry for entry in logs if entry["event"] == "no_keys"]
    assert bool(warned) == (host != "127.0.0.1" and not with_key)
