"""All errors that captiond raises on purpose, with one base class and one stable code for each.

A code is part of the API: it is `"code"` in the body of an error and in the result of a bad image.
A code never changes, and no two errors share one. The message says what a person can do.
"""

from collections.abc import Sequence
from typing import ClassVar


class CaptiondError(Exception):
    """The base class of all errors that captiond raises on purpose.

    `code` identifies the error in the API. `status` is the HTTP status of a response with it.
    `retry_after` is the header `Retry-After` in seconds, or None if another try does not help.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retry_after: int | None = None


class StartupError(CaptiondError):
    """captiond cannot start with these settings; the message says how to correct them."""

    code = "startup_error"


class SettingsError(StartupError):
    """A setting is wrong; the message names the file, the key and the value."""

    code = "settings_error"


class DatabaseUnusable(StartupError):
    """The database file is corrupt, unreadable, or newer than this captiond."""

    code = "database_unusable"


class BackupFailed(CaptiondError):
    """The database could not be copied; the message says why, and what to do."""

    code = "backup_failed"


class CopyFailed(CaptiondError):
    """The database could not be copied into another one; the message says why, and what to do."""

    code = "copy_failed"


class AlreadyRunning(StartupError):
    """Another captiond is running on the same data folder."""

    code = "already_running"


class KeyExists(CaptiondError):
    """There is a key with this name already."""

    code = "key_exists"


class KeyNotFound(CaptiondError):
    """The database has no key with this name."""

    code = "key_not_found"


class ModelMissing(CaptiondError):
    """The files of a model are not on disk and cannot be downloaded."""

    code = "model_missing"
    status = 503


class ModelBroken(CaptiondError):
    """The files of a model exist but cannot be loaded."""

    code = "model_broken"
    status = 503


class OutOfMemory(CaptiondError):
    """The device has too little memory for a batch, or even for a single image."""

    code = "out_of_memory"
    status = 503


class ImageError(CaptiondError):
    """An image cannot be captioned. The error does not affect other images."""

    code = "invalid_image"
    status = 400


class EmptyImage(ImageError):
    """The file has no bytes."""

    code = "empty_image"


class NotAnImage(ImageError):
    """The file has no image type that captiond knows."""

    code = "not_an_image"


class ImageTypeRefused(ImageError):
    """The image has a type that `[images] types` does not list."""

    code = "image_type_refused"


class CorruptImage(ImageError):
    """The file begins like an image, but it cannot be decoded: it is truncated or damaged."""

    code = "corrupt_image"


class TooManyPixels(ImageError):
    """The header declares more pixels than `[images] max_pixels`. No pixel has been decoded."""

    code = "too_many_pixels"


class TooMuchMemory(ImageError):
    """Decoding the image takes more memory than image decoders may have here."""

    code = "too_much_memory"


class PoisonImage(ImageError):
    """The processes that worked on this image died repeatedly."""

    code = "poison_image"


class ImageTooSlow(ImageError):
    """Decoding the image takes longer than `[images] decode_seconds` of processor time."""

    code = "image_too_slow"


class FileTooLarge(ImageError):
    """A file is larger than `[limits] file_bytes`."""

    code = "file_too_large"
    status = 413


class ReferenceUnreadable(ImageError):
    """The file or the object at an address cannot be read. Only commands read such addresses."""

    code = "reference_unreadable"


class ReferenceUnavailable(ReferenceUnreadable):
    """The file or the object cannot be read now, but another attempt may succeed."""


class PathRefused(ImageError):
    """The field `path` names no regular file under `[images] root`."""

    code = "path_refused"


class NotBase64(ImageError):
    """The text of an image in a JSON body is not base64."""

    code = "not_base64"


class UrlRefused(ImageError):
    """The text of an image in a JSON body is a URL that would have to be fetched."""

    code = "url_refused"


class RequestError(CaptiondError):
    """A request is malformed or asks for something that captiond does not do."""

    code = "bad_request"
    status = 400


class MalformedBody(RequestError):
    """The body of a request cannot be parsed."""

    code = "malformed_body"


class BodyTooLarge(RequestError):
    """The body of a request is larger than `[limits] body_bytes`."""

    code = "body_too_large"
    status = 413


class TooManyFiles(RequestError):
    """A request has more files than `[limits] files`."""

    code = "too_many_files"
    status = 422


class UploadTimeout(RequestError):
    """The body of a request did not arrive within `[limits] upload_seconds`."""

    code = "upload_timeout"
    status = 408


class KeyReused(RequestError):
    """The Idempotency-Key was already used for a different request."""

    code = "idempotency_key_reused"
    status = 422


class BadKey(RequestError):
    """The Idempotency-Key is too long, or has characters other than printable ASCII."""

    code = "bad_idempotency_key"


class HostNotAllowed(RequestError):
    """The request names a host that is not one of this service's, see `[server] hosts`."""

    code = "host_not_allowed"
    status = 421


class OriginNotAllowed(RequestError):
    """A web page of another origin sent the request, and `[server] cors_origins` lacks it."""

    code = "origin_not_allowed"
    status = 403


class Unauthorized(RequestError):
    """Keys are configured, and the request has no valid key."""

    code = "unauthorized"
    status = 401


class Forbidden(RequestError):
    """The key of the request does not have the scope that the operation needs."""

    code = "forbidden"
    status = 403


class TooManyRequests(RequestError):
    """The client of the request is over one of its limits, which the message names."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TaskNotFound(CaptiondError):
    """There is no task with this id."""

    code = "task_not_found"
    status = 404


class ImportNotFound(CaptiondError):
    """The database has no import with this id."""

    code = "import_not_found"


class ImportCancelled(CaptiondError):
    """The import is cancelled. Its finished results stay."""

    code = "import_cancelled"


class TaskFinished(CaptiondError):
    """The task is finished, so it can no longer be cancelled."""

    code = "task_finished"
    status = 409


class NothingToRetry(CaptiondError):
    """No image of the task can be retried."""

    code = "nothing_to_retry"
    status = 409

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"{task_id}: no image to try again. Images of a finished task can be retried if they "
            "failed because of the machine, not more than [retention] retry_days ago; see: "
            f"captiond tasks show {task_id}"
        )


class Unavailable(CaptiondError):
    """captiond cannot serve the request now; the client may retry after `retry_after` seconds."""

    code = "unavailable"
    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelNotReady(Unavailable):
    """No model process can caption images at present, for these `reasons`."""

    code = "model_not_ready"

    def __init__(self, reasons: Sequence[str], *, retry_after: int = 5) -> None:
        super().__init__("; ".join(reasons), retry_after=retry_after)
        self.reasons = reasons


class QueueFull(Unavailable):
    """Too many images are waiting already."""

    code = "queue_full"


class SpoolFull(Unavailable):
    """The spool has reached `[limits] spool_bytes`; nothing of the request was accepted."""

    code = "spool_full"
    status = 507


class Draining(Unavailable):
    """The service is stopping and accepts no new requests."""

    code = "draining"


class WorkerLost(Unavailable):
    """The model process died while it worked on this image, and its replacement died as well."""

    code = "worker_lost"


class OptionNotSupported(CaptiondError):
    """The model does not support an option of the request, such as a prompt."""

    code = "option_not_supported"
    status = 422


class Withdrawn(CaptiondError):
    """The client has disconnected, or the task is cancelled. No client ever receives this error."""

    code = "withdrawn"
    status = 499


class RequestTimeout(CaptiondError):
    """An interactive request was not answered within `[limits] request_seconds`."""

    code = "request_timeout"
    status = 504


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
