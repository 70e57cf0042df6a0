"""Errors of a service that cannot serve a request now."""

from collections.abc import Sequence

from captiond.errors.captiond_error import CaptiondError


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


class CannotStore(Unavailable):
    """The model is ready, but no image can be stored at present, for these `reasons`."""

    code = "cannot_store"

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


class Withdrawn(CaptiondError):
    """The client has disconnected, or the task is cancelled. No client ever receives this error."""

    code = "withdrawn"
    status = 499


class RequestTimeout(CaptiondError):
    """An interactive request was not answered within `[limits] request_seconds`."""

    code = "request_timeout"
    status = 504
