"""Where the database is: a file of SQLite, or a database of a PostgreSQL server.

The password in a URL is never shown: neither by `str()` and `repr()` of an address, nor in the
message of an error.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

FORMS = "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
SQLITE = "sqlite"
POSTGRESQL = ("postgresql+psycopg", "postgresql", "postgres")
SECRET_PARAMETERS = re.compile(r"(?i)([?&](?:password|sslpassword|passfile)=)[^&]*")


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """The place of a database: `file` is a file of SQLite; if it is None, `url` is a server's.

    The other fields are for a server: how many connections each process has at most, and how long
    a statement and a new connection may take.
    """

    file: Path | None
    url: str = field(default="", repr=False)
    connections: int = 5
    statement_seconds: float = 60.0
    connect_seconds: float = 10.0

    @property
    def is_server(self) -> bool:
        """Whether the database is one of a PostgreSQL server."""
        return self.file is None

    def __str__(self) -> str:
        return masked(self.url) if self.file is None else str(self.file)


def check_database_url(url: str) -> str:
    """Return a URL of a database as it is, without spaces around it. It may be empty.

    Raises:
        ValueError: The URL names no database that captiond can use. The message has no part of it.
    """
    url = url.strip()
    if not url:
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in (SQLITE, *POSTGRESQL):
        raise ValueError(f"must be empty, {FORMS}")
    if scheme == SQLITE:
        if not rest.startswith("/") or rest == "/" or "?" in rest:
            raise ValueError("must be sqlite:///FILE; an absolute path has four slashes")
        return url
    check_server(url)
    return url


def check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
        check_credentials(parts.netloc, url)
    except ValueError:
        raise ValueError(
            f"must be {FORMS}; write special characters of a password as %40 and the like"
        ) from None
    names_host = bool(parts.hostname) or any(key == "host" for key, _ in parse_qsl(parts.query))
    if len(parts.path) < 2 or not names_host or port == 0:
        raise ValueError(f"must name a host and a database: {FORMS}")


def check_credentials(authority: str, url: str) -> None:
    """Raise ValueError if readers of the URL could find different passwords in it.

    SQLAlchemy ends a password at the first @. For others, the authority ends at the first slash. A
    password such as `1/2` would be a part of the path for `masked`, and would be shown.
    """
    if authority.count("@") > 1 or ("@" in url and "@" not in authority):
        raise ValueError


def sqlite_file(url: str) -> Path | None:
    """Return the file of a URL of SQLite, or None if the URL is empty or a server's."""
    scheme, _, rest = url.partition("://")
    return Path(unquote(rest[1:])) if scheme == SQLITE else None


def masked(url: str) -> str:
    """Return a URL with `***` in place of its password."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{name}:***" if colon else user
    return SECRET_PARAMETERS.sub(r"\1***", f"{scheme}{separator}{shown}{at}{host}{slash}{path}")
