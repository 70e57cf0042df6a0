"""The Python client of captiond: `Captiond` for blocking code, `AsyncCaptiond` for asyncio.

    from captiond.client import Captiond

    with Captiond("http://127.0.0.1:8000") as captiond:
        print(captiond.caption("cat.jpg").caption)

Both clients retry what may succeed later, and raise `ServiceError` for everything else.
"""

from captiond.client.asynchronous import AsyncCaptiond, AsyncCaptionTask
from captiond.client.blocking import Captiond, CaptionTask
from captiond.client.failures import (
    AnswerNotUnderstood,
    RequestRefused,
    ServiceError,
    ServiceUnreachable,
    WaitTimeout,
)
from captiond.client.pictures import Picture
from captiond.client.retrying import RetryPolicy
from captiond.client.typed_results import (
    CaptionChoice,
    CaptionTag,
    ImageCaption,
    TaskCountsSoFar,
    TaskReport,
)

__all__ = [
    "AnswerNotUnderstood",
    "AsyncCaptionTask",
    "AsyncCaptiond",
    "CaptionChoice",
    "CaptionTag",
    "CaptionTask",
    "Captiond",
    "ImageCaption",
    "Picture",
    "RequestRefused",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnreachable",
    "TaskCountsSoFar",
    "TaskReport",
    "WaitTimeout",
]
