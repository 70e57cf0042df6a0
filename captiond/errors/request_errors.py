"""Errors of requests that captiond refuses, and of tasks that cannot do what is asked."""

from captiond.errors.captiond_error import CaptiondError


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
