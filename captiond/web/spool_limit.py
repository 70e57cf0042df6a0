"""Checks the limit of the spool, `[limits] spool_bytes`, before the upload of a task."""

from starlette.requests import Request

from captiond.config import LimitSettings
from captiond.errors import SpoolFull
from captiond.messages import State

RETRY_SECONDS = 30  # until tasks have finished and their files are removed


def check_spool(request: Request, state: State, limits: LimitSettings) -> None:
    """Return if the spool can take a task's body. Nothing of the body has been read by then.

    The supervisor measures the spool every few seconds, so the limit can be exceeded by what is
    accepted in between. A body of unknown length is refused only once the limit is reached.

    Raises:
        SpoolFull: the body would exceed the limit.
    """
    free = state.spool_free
    if free is None:
        return
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdigit() else 1
    if size > free:
        raise SpoolFull(
            f"the uploads that wait may take {limits.spool_bytes} bytes ([limits] spool_bytes), "
            f"and {free} are left; try again later",
            retry_after=RETRY_SECONDS,
        )
