"""Every error that captiond raises on purpose: one base class, one stable code per error.

The code is part of the API (`"code"` in an error's body and in the result of a bad image), so a
code is never changed and never used for two things. The message tells a person what to do.
"""

from collections.abc import Sequence
from typing import ClassVar


class CaptiondError(Exception):
    """The base of all errors that captiond raises on purpose.

    `status` is the HTTP status that stands for the error when it reaches a client.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500


# ---------------------------------------------------------------- starting up


class StartupError(CaptiondError):
    """captiond cannot start as it is set up; the message says how to mend that."""

    code = "startup_error"


class SettingsError(StartupError):
    """A setting is wrong; the message names file, key and value."""

    code = "settings_error"


class DatabaseUnusable(StartupError):
    """The database file is corrupt, unreadable, or newer than this captiond."""

    code = "database_unusable"


class BackupFailed(CaptiondError):
    """The database was not copied; the message says why, and what to do."""

    code = "backup_failed"


class AlreadyRunning(StartupError):
    """Another captiond serves the same data folder."""

    code = "already_running"


# ---------------------------------------------------------------- models


class ModelMissing(CaptiondError):
    """A model's files are neither on disk nor to be had."""

    code = "model_missing"
    status = 503


class ModelBroken(CaptiondError):
    """A model's files are there and cannot be loaded."""

    code = "model_broken"
    status = 503


class OutOfMemory(CaptiondError):
    """The device has no memory for a batch, which is then split; or for one image alone."""

    code = "out_of_memory"
    status = 503


# ---------------------------------------------------------------- images


class ImageError(CaptiondError):
    """An image that cannot be captioned; no other image is harmed by it."""

    code = "invalid_image"
    status = 400


class EmptyImage(ImageError):
    code = "empty_image"


class NotAnImage(ImageError):
    code = "not_an_image"


class ImageTypeRefused(ImageError):
    """An image of a type that this deployment does not read."""

    code = "image_type_refused"


class CorruptImage(ImageError):
    """The header is an image's, the rest cannot be decoded: truncated or damaged."""

    code = "corrupt_image"


class TooManyPixels(ImageError):
    """More pixels than `[images] max_pixels`, read from the header before any is decoded."""

    code = "too_many_pixels"


class PoisonImage(ImageError):
    """The process that worked on this image died, more than once."""

    code = "poison_image"


class ImageTooSlow(ImageError):
    """Decoding took more processor time than it may."""

    code = "image_too_slow"


class FileTooLarge(ImageError):
    """One file is over `[limits] file_bytes`."""

    code = "file_too_large"
    status = 413


# ---------------------------------------------------------------- requests


class RequestError(CaptiondError):
    """A request that cannot be served as it came."""

    code = "bad_request"
    status = 400


class MalformedBody(RequestError):
    code = "malformed_body"


class BodyTooLarge(RequestError):
    """The whole body is over `[limits] body_bytes`."""

    code = "body_too_large"
    status = 413


class TooManyFiles(RequestError):
    code = "too_many_files"
    status = 422


class UploadTimeout(RequestError):
    """The body did not arrive within `[limits] upload_seconds`."""

    code = "upload_timeout"
    status = 408


class KeyReused(RequestError):
    """An Idempotency-Key that came with another request before."""

    code = "idempotency_key_reused"
    status = 422


class BadKey(RequestError):
    """An Idempotency-Key that is too long, or not of printable ASCII."""

    code = "bad_idempotency_key"


class TaskNotFound(CaptiondError):
    code = "task_not_found"
    status = 404


class TaskFinished(CaptiondError):
    """The task has ended; it cannot be cancelled any more."""

    code = "task_finished"
    status = 409


class NothingToRetry(CaptiondError):
    """No image of the task can be tried again."""

    code = "nothing_to_retry"
    status = 409

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"{task_id}: no image to try again: none failed by what another try may mend, or that "
            "was longer ago than [retention] retry_days, or the task has not ended; see: "
            f"captiond tasks show {task_id}"
        )


# ---------------------------------------------------------------- load and lifetime


class Unavailable(CaptiondError):
    """Not now; the client may come again after `retry_after` seconds."""

    code = "unavailable"
    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelNotReady(Unavailable):
    """No model process can caption at present, for these `reasons`."""

    code = "model_not_ready"

    def __init__(self, reasons: Sequence[str], *, retry_after: int = 5) -> None:
        super().__init__("; ".join(reasons), retry_after=retry_after)
        self.reasons = reasons


class QueueFull(Unavailable):
    code = "queue_full"


class Draining(Unavailable):
    code = "draining"


class WorkerLost(Unavailable):
    """The model process died with this image in hand, and died again."""

    code = "worker_lost"


class OptionNotSupported(CaptiondError):
    """The model does not support an option of the request, such as a prompt."""

    code = "option_not_supported"
    status = 422


class Withdrawn(CaptiondError):
    """The client has gone, or its task is cancelled; no client is ever told this."""

    code = "withdrawn"
    status = 499


class RequestTimeout(CaptiondError):
    """An interactive request outlived `[limits] request_seconds`."""

    code = "request_timeout"
    status = 504


class StoreError(CaptiondError):
    """The disk or the database cannot take what is to be written; it may later."""

    code = "storage_failed"


class NoSpace(StoreError):
    """The disk has no room; nothing of the request was accepted."""

    code = "no_space"
    status = 507


class StorageFailed(StoreError):
    """The disk failed; nothing of the request was accepted."""


class SpoolError(StoreError):
    """An uploaded image cannot be read back from the spool; the image may be tried again."""

    code = "spool_error"


class StoreBusy(StoreError):
    """Another process has kept the database locked for too long."""

    code = "store_busy"
    status = 503
