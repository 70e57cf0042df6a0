"""Errors of the database, the disk and the object storage."""

from captiond.errors.captiond_error import CaptiondError


class StoreError(CaptiondError):
    """The disk or the database cannot store or read the data now."""

    code = "storage_failed"


class NoSpace(StoreError):
    """The disk is full. Nothing of the request was accepted."""

    code = "no_space"
    status = 507
    retry_after = 30


class StorageFailed(StoreError):
    """The disk or the file system failed. Nothing of the request was accepted."""

    retry_after = 30


class StoreReadOnly(StorageFailed):
    """The database file or its file system is read-only."""


class StoreDamaged(StoreError):
    """The database file is damaged, or is not a database."""

    code = "database_damaged"


class StoreRefused(StoreError):
    """The database refuses a statement or a value, and would refuse it again.

    The cause is a fault in captiond, or data that the tables cannot hold. Trying again is useless.
    """

    code = "internal_error"


class SpoolError(StoreError):
    """An uploaded image cannot be read back from the spool. The image can be retried."""

    code = "spool_error"


class StoreBusy(StoreError):
    """Other processes have kept the database locked for too long."""

    code = "store_busy"
    status = 503
    retry_after = 5


class StoreUnreachable(StoreBusy):
    """The server of the database cannot be reached, or has refused the connection."""


class StoreConflict(StoreBusy):
    """A transaction was rolled back although nothing is wrong with it; the same one may succeed.

    Another transaction was in its way, or the connection was lost before its commit.
    """


class StoreUncertain(StoreBusy):
    """The connection was lost during a commit: the transaction may have been carried out."""
