"""Every result code of SQLite as an error of the store."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import exc as sqlalchemy_errors

from captiond.errors import (
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
)

PRIMARY_CODE = (
    0xFF  # the bits of a result code that hold the primary code (sqlite.org/rescode.html)
)
BUSY = (StoreBusy, "the database is busy; try again shortly")
READ_ONLY = (
    StoreReadOnly,
    "the database cannot be written: the file or its file system is read-only for this process; "
    "mount the file system writable and check the owner of the data folder",
)
FAILED = (StorageFailed, "the database cannot be read or written")
DAMAGED = (
    StoreDamaged,
    "the database is damaged; stop captiond and restore a backup (captiond db check shows details)",
)
REFUSED = (StoreRefused, "the database refused a statement")
ERRORS: Mapping[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_ERROR: REFUSED,  # wrong SQL, or a table that is missing
    sqlite3.SQLITE_INTERNAL: DAMAGED,
    sqlite3.SQLITE_PERM: FAILED,
    sqlite3.SQLITE_ABORT: BUSY,  # a rollback on the same connection interrupted the statement
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_NOMEM: (StorageFailed, "there is no memory for the database"),
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: BUSY,
    sqlite3.SQLITE_IOERR: FAILED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTFOUND: REFUSED,
    sqlite3.SQLITE_FULL: (NoSpace, "no space left for the database; nothing was accepted"),
    sqlite3.SQLITE_CANTOPEN: FAILED,
    sqlite3.SQLITE_PROTOCOL: BUSY,  # too many processes raced for the lock of the log
    sqlite3.SQLITE_EMPTY: REFUSED,
    sqlite3.SQLITE_SCHEMA: BUSY,  # another process changed the tables; the next try reads them
    sqlite3.SQLITE_TOOBIG: REFUSED,
    sqlite3.SQLITE_CONSTRAINT: REFUSED,
    sqlite3.SQLITE_MISMATCH: REFUSED,
    sqlite3.SQLITE_MISUSE: REFUSED,
    sqlite3.SQLITE_NOLFS: FAILED,  # the file system cannot hold a file of this size
    sqlite3.SQLITE_AUTH: REFUSED,
    sqlite3.SQLITE_FORMAT: DAMAGED,
    sqlite3.SQLITE_RANGE: REFUSED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Raise the driver's and the pool's errors as the StoreError that ERRORS names."""
    try:
        yield
    except sqlalchemy_errors.TimeoutError as error:
        raise StoreBusy("every connection to the database is in use; try again shortly") from error
    except sqlalchemy_errors.DBAPIError as error:
        raise store_error(error.orig) from error
    except sqlite3.Error as error:
        raise store_error(error) from error
    except UnicodeError as error:  # half of a surrogate pair, which UTF-8 cannot encode
        raise StoreRefused(f"{REFUSED[1]}: {error}") from error
    except MemoryError as error:  # the driver's exception for SQLITE_NOMEM
        raise StorageFailed(ERRORS[sqlite3.SQLITE_NOMEM][1]) from error


def store_error(error: BaseException | None) -> StoreError:
    """Return the StoreError that stands for an error of the driver.

    An error without a result code is the driver's own complaint about how it was called.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & PRIMARY_CODE
    kind, message = ERRORS.get(code, FAILED)
    return kind(message if kind in {NoSpace, StoreBusy} else f"{message}: {error}")
