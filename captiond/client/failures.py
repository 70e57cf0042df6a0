"""The errors of the Python client. They have one base class, `ServiceError`."""

from collections.abc import Mapping
from typing import Any


class ServiceError(Exception):
    """A call to the service has failed."""


class ServiceUnreachable(ServiceError):
    """No answer has come: the service does not listen, or the connection broke."""


class AnswerNotUnderstood(ServiceError):
    """The answer is not one of captiond's. Another program may listen at this URL."""


class WaitTimeout(ServiceError):
    """The task was not finished in the time that the caller allowed. It goes on."""


class RequestRefused(ServiceError):
    """The service has answered with an error.

    `code` is for programs, `detail` for people. `problems` lists the fields that are missing or
    wrong. `retry_after` is in seconds, None if a repetition will not help. `request_id` finds the
    request in the log of the service.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        problems: tuple[Mapping[str, Any], ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.problems = problems
        self.request_id = request_id
        self.retry_after = retry_after
