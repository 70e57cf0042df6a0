"""URLs of databases: which are accepted, and that a password is never shown."""

from pathlib import Path

import pytest

from captiond.databaseurl import check_database_url, masked
from captiond.errors import SettingsError
from captiond.settings.config import Settings
from captiond.settings.database_settings import DatabaseSettings
from captiond.settings.sources import layers_of, load_settings, origins

SERVERS = [
    "postgresql+psycopg://captiond@db/captiond",
    "postgresql+psycopg://captiond:pa%40ss@db.example.com:5433/captiond?sslmode=require",
    "postgresql://db/captiond",
    "postgres://[::1]:5432/captiond",
    "postgresql+psycopg://captiond@/captiond?host=/run/postgresql",
    "postgresql+psycopg://captiond@/captiond?host=a,b&target_session_attrs=read-write",
]
MALFORMED = [
    "captiond",
    "mysql://db/captiond",
    "postgresql+asyncpg://db/captiond",
    "postgresql+psycopg://hunter2@db",
    "postgresql+psycopg://hunter2@db/",
    "postgresql+psycopg://a:hunter2@db:port/captiond",
    "postgresql+psycopg://a:hunter2@db:99999/captiond",
    "postgresql+psycopg://a:hunter2@/captiond",
    "postgresql+psycopg://a:hunter2@[::1/captiond",
    "sqlite://captiond.db",
    "sqlite:///",
    "sqlite:///a.db?mode=ro",
]


@pytest.mark.parametrize("url", SERVERS)
def test_a_server_has_an_address(url: str, tmp_path: Path) -> None:
    address = DatabaseSettings(url=url, connections=7).address(tmp_path / "captiond.db")
    assert (address.is_server, address.url, address.connections) == (True, url, 7)
    assert "pa%40ss" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("", "/data/captiond.db"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite:////srv/a%20b.db", "/srv/a b.db"),
    ],
)
def test_a_file_has_an_address(url: str, file: str) -> None:
    address = DatabaseSettings(url=url).address(Path("/data/captiond.db"))
    assert (address.is_server, address.file, str(address)) == (False, Path(file), file)


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="must ") as raised:
        check_database_url(url)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(SettingsError, match=r"CAPTIOND_DATABASE__URL = \*\*\*: .*must ") as wrong:
        load_settings(file=None, environ={"CAPTIOND_DATABASE__URL": url}, flags={})
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://a:hunter2@db/c", "postgresql+psycopg://a:***@db/c"),
        ("postgresql+psycopg://a:hun@ter2@db/c", "postgresql+psycopg://a:***@db/c"),
        (
            "postgresql+psycopg://a@db/c?password=hunter2&x=1",
            "postgresql+psycopg://a@db/c?password=***&x=1",
        ),
        ("postgresql+psycopg://a@/c?host=/run", "postgresql+psycopg://a@/c?host=/run"),
    ],
)
def test_a_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_settings_do_not_show_a_password() -> None:
    environ = {"CAPTIOND_DATABASE__URL": "postgresql+psycopg://a:hunter2@db/c"}
    settings = load_settings(file=None, environ=environ, flags={})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(origins(layers_of(None, environ, {})))
    assert "hunter2" not in f"{settings.database_address} {settings.database_address!r}"
    assert Settings().database_address.file == Path("data/captiond.db")
