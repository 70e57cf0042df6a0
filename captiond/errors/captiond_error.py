"""The base class of all errors that captiond raises on purpose."""

from typing import ClassVar


class CaptiondError(Exception):
    """The base class of all errors that captiond raises on purpose.

    `code` identifies the error in the API. `status` is the HTTP status of a response with it.
    `retry_after` is the header `Retry-After` in seconds, or None if another try does not help.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retry_after: int | None = None
