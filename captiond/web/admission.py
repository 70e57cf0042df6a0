"""Admission: a request is let through while its client is within its limits.

The limits hold for all web processes together, see `captiond.usage`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Message, Receive

from captiond.clients import Client
from captiond.errors import TooManyRequests
from captiond.keys import Limits
from captiond.usage import ClientUsage, Usage, seconds_until_allowed

SOON = 2  # seconds; Retry-After of limits that end when other requests of the client are finished


class Admission:
    """A request that was let through. It adds to its client's usage until the request is finished.

    A limit that is 0 or None is not checked, and a client without limits is not counted.
    `task_images` is the limit of images that wait in the client's tasks, which the database counts.
    """

    def __init__(
        self,
        counters: ClientUsage,
        client: Client,
        limits: Limits,
        now: float,
        *,
        task_images: int = 0,
    ) -> None:
        self.limits = limits
        self.task_images = task_images
        self._counters = counters
        self._entry = counters.entry(client.name, now) if limits else None
        self._images = 0
        self._body_bytes = 0

    def begin(self, now: float) -> None:
        """Count the request.

        Raises:
            TooManyRequests: the client is over a limit. Nothing is counted.
        """
        if self._entry is None:
            return
        total = self._total()
        check_rate(total, self.limits.requests or 0, window=self._counters.window, now=now)
        check(total.concurrent + 1, self.limits.concurrent, "requests at the same time")
        self._add(Usage(current=1, concurrent=1))

    def count_refused(self, now: float) -> None:
        """Count a request that has no valid key, whatever it asks for.

        Raises:
            TooManyRequests: the client has sent too many requests.
        """
        if self._entry is not None:
            limit = self.limits.requests or 0
            check_rate(self._total(), limit, window=self._counters.window, now=now)
            self._add(Usage(current=1))

    def hold_images(self, number: int) -> None:
        """Count images that wait until the request is finished.

        Raises:
            TooManyRequests: too many images of the client would wait.
        """
        if self._entry is not None and self.limits.images:
            check(self._total().images + number, self.limits.images, "waiting images")
            self._images += number
            self._add(Usage(images=number))

    def hold_body(self, size: int) -> None:
        """Count bytes of the body, until the request is finished.

        Raises:
            TooManyRequests: the bodies of the client would be too large together.
        """
        if self._entry is not None and self.limits.body_bytes:
            check(self._total().body_bytes + size, self.limits.body_bytes, "bytes of bodies")
            self._body_bytes += size
            self._add(Usage(body_bytes=size))

    def end(self) -> None:
        """Take back what the request has added. It stays counted in its window."""
        if self._entry is not None:
            used = Usage(concurrent=-1, images=-self._images, body_bytes=-self._body_bytes)
            self._add(used)

    def _total(self) -> Usage:
        assert self._entry is not None
        return self._counters.total(self._entry)

    def _add(self, more: Usage) -> None:
        assert self._entry is not None
        self._entry.usage.add(more)
        self._counters.publish(self._entry)


@contextmanager
def admitted(
    counters: ClientUsage, client: Client, limits: Limits, now: float, *, task_images: int = 0
) -> Iterator[Admission]:
    """Run the block with the admission of one request.

    Raises:
        TooManyRequests: the client is over a limit.
    """
    admission = Admission(counters, client, limits, now, task_images=task_images)
    admission.begin(now)
    try:
        yield admission
    finally:
        admission.end()


def admission_of(request: Request) -> Admission:
    """Return the admission of this request."""
    admission: Admission = request.state.admission
    return admission


def counted_body(admission: Admission, length: str, receive: Receive) -> Receive:
    """Return `receive` for a request whose body counts against its client's limit.

    A body is counted when the request begins, by its Content-Length. If it has none, its bytes are
    counted as they arrive.

    Raises:
        TooManyRequests: the bodies of the client would be too large together.
    """
    if not admission.limits.body_bytes:
        return receive
    if length.isdigit():
        admission.hold_body(int(length))
        return receive

    async def counting() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            admission.hold_body(len(message.get("body", b"")))
        return message

    return counting


def check_rate(total: Usage, limit: int, *, window: float, now: float) -> None:
    """Return if one more request is within the limit; 0 is no limit. Raises TooManyRequests."""
    if not limit:
        return
    seconds = seconds_until_allowed(total, limit, window=window, elapsed=now % window)
    if seconds > 0:
        raise TooManyRequests(
            f"this client may send {limit} requests in {window:g} seconds",
            retry_after=math.ceil(seconds),
        )


def check(number: int, limit: int | None, what: str) -> None:
    """Return if `number` is within the limit; 0 and None are no limit. Raises TooManyRequests."""
    if limit and number > limit:
        raise TooManyRequests(f"this client may have {limit} {what}", retry_after=SOON)
