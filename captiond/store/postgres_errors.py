"""Every SQLSTATE of PostgreSQL as an error of the store.

The first two characters of a SQLSTATE are its class (appendix A of PostgreSQL's documentation).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc as sqlalchemy_errors

from captiond.errors import (
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreConflict,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
    StoreUncertain,
    StoreUnreachable,
)
from captiond.store.backend import Phase

Known = tuple[type[StoreError], str]
BUSY = (StoreBusy, "the database is busy; try again shortly")
CONFLICT = (StoreConflict, "another transaction was in the way; try again shortly")
GONE = (StoreConflict, "the connection to the database was lost; try again shortly")
UNREACHABLE = (StoreUnreachable, "the database server takes no connection now; try again shortly")
UNCERTAIN = (
    StoreUncertain,
    "the connection to the database was lost during a commit; look whether it was carried out",
)
FULL = (NoSpace, "no space left for the database; nothing was accepted")
READ_ONLY = (
    StoreReadOnly,
    "the database cannot be written: the server is read-only, as a standby is; name the primary "
    "server in [database] url, with target_session_attrs=read-write if there are several",
)
FAILED = (StorageFailed, "the database cannot be read or written")
DENIED = (
    StorageFailed,
    "the database user may not do this; make it the owner of the database (docs/operating.md)",
)
DAMAGED = (
    StoreDamaged,
    "the database is damaged; stop captiond and restore a backup",
)
REFUSED = (StoreRefused, "the database refused a statement")

CLASSES: Mapping[str, Known] = {
    "00": REFUSED,  # successful completion: no error should have it
    "01": REFUSED,  # warning
    "02": REFUSED,  # no data
    "03": REFUSED,  # SQL statement not yet complete
    "08": GONE,  # connection exception
    "09": REFUSED,  # triggered action exception
    "0A": REFUSED,  # feature not supported
    "0B": REFUSED,  # invalid transaction initiation
    "0F": REFUSED,  # locator exception
    "0L": REFUSED,  # invalid grantor
    "0P": REFUSED,  # invalid role specification
    "0Z": REFUSED,  # diagnostics exception
    "10": REFUSED,  # XQuery error
    "20": REFUSED,  # case not found
    "21": REFUSED,  # cardinality violation
    "22": REFUSED,  # data exception
    "23": REFUSED,  # integrity constraint violation
    "24": REFUSED,  # invalid cursor state
    "25": REFUSED,  # invalid transaction state
    "26": REFUSED,  # invalid SQL statement name
    "27": REFUSED,  # triggered data change violation
    "28": FAILED,  # invalid authorization specification
    "2B": REFUSED,  # dependent privilege descriptors still exist
    "2D": REFUSED,  # invalid transaction termination
    "2F": REFUSED,  # SQL routine exception
    "34": REFUSED,  # invalid cursor name
    "38": REFUSED,  # external routine exception
    "39": REFUSED,  # external routine invocation exception
    "3B": REFUSED,  # savepoint exception
    "3D": FAILED,  # invalid catalog name: there is no such database
    "3F": REFUSED,  # invalid schema name
    "40": CONFLICT,  # transaction rollback
    "42": REFUSED,  # syntax error, access rule violation, or a table that is missing
    "44": REFUSED,  # WITH CHECK OPTION violation
    "53": BUSY,  # insufficient resources
    "54": REFUSED,  # program limit exceeded
    "55": BUSY,  # object not in prerequisite state
    "57": BUSY,  # operator intervention
    "58": FAILED,  # system error, external to PostgreSQL
    "72": BUSY,  # snapshot too old
    "F0": FAILED,  # configuration file error
    "HV": REFUSED,  # foreign data wrapper error
    "P0": REFUSED,  # PL/pgSQL error
    "XX": FAILED,  # internal error
}
STATES: Mapping[str, Known] = {
    "25006": READ_ONLY,  # read_only_sql_transaction
    "25P03": GONE,  # idle_in_transaction_session_timeout
    "25P04": BUSY,  # transaction_timeout
    "40003": UNCERTAIN,  # statement_completion_unknown
    "42501": DENIED,  # insufficient_privilege
    "53100": FULL,  # disk_full
    "53200": (StorageFailed, "there is no memory for the database"),  # out_of_memory
    "53300": UNREACHABLE,  # too_many_connections
    "57014": BUSY,  # query_canceled, by statement_timeout
    "57P01": GONE,  # admin_shutdown
    "57P02": GONE,  # crash_shutdown
    "57P03": UNREACHABLE,  # cannot_connect_now
    "57P04": FAILED,  # database_dropped
    "57P05": GONE,  # idle_session_timeout
    "XX001": DAMAGED,  # data_corrupted
    "XX002": DAMAGED,  # index_corrupted
}


@contextmanager
def as_store_errors(phase: Phase) -> Iterator[None]:
    """Raise the driver's and the pool's errors as the StoreError that CLASSES or STATES names."""
    try:
        yield
    except sqlalchemy_errors.TimeoutError as error:
        raise StoreBusy("every connection to the database is in use; try again shortly") from error
    except sqlalchemy_errors.DBAPIError as error:
        raise store_error(error.orig, phase, lost=error.connection_invalidated) from error
    except psycopg.Error as error:
        raise store_error(error, phase, lost=False) from error
    except UnicodeError as error:  # half of a surrogate pair, which UTF-8 cannot encode
        raise StoreRefused(f"{REFUSED[1]}: {error}") from error


def store_error(error: BaseException | None, phase: Phase, *, lost: bool) -> StoreError:
    """Return the StoreError that stands for an error of the driver.

    An error without a SQLSTATE is a lost connection, or the driver's own complaint about a value or
    about how it was called.
    """
    state = getattr(error, "sqlstate", None)
    kind, message = known(state, lost=lost or isinstance(error, psycopg.OperationalError))
    if phase.commits and kind is StoreConflict and (lost or state is None or state[:2] != "40"):
        kind, message = UNCERTAIN
    return kind(message if kind in PLAIN else f"{message}: {error}")


PLAIN = {NoSpace, StoreBusy, StoreConflict, StoreUncertain}


def known(state: str | None, *, lost: bool) -> Known:
    if state is None:
        return GONE if lost else REFUSED
    return STATES.get(state) or CLASSES.get(state[:2], FAILED)
