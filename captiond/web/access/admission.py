"""Admission: a request is let through while its client is within its limits.

The limits hold for all web processes together, see `captiond.usage`.
"""

import math
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from captiond.clients import Client
from captiond.errors import RequestError, TooManyRequests
from captiond.keys import Limits
from captiond.notation.sizes import shown_size
from captiond.usage import ClientUsage, CountedClient, Usage, seconds_until_allowed

SOON = 2  # seconds; Retry-After of limits that end when other requests of the client are finished


class TooManyImages(RequestError):
    """The request has more images than its client may have waiting at all: no retry helps."""

    code = "too_many_images"
    status = 422


class ClientBodyTooLarge(RequestError):
    """The request's images have more bytes than its client may send at once: no retry helps."""

    code = "client_body_too_large"
    status = 413


class ClientLimited(TooManyRequests):
    """The client of the request is over one of its limits, whose name is a label of the metrics."""

    def __init__(self, message: str, *, limit: str, retry_after: int) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit


class Admission:
    """A request, and what it adds to the usage of its client until it is finished.

    A limit that is 0 or None is not checked, and a client without limits is not counted.
    `task_images` is the limit of images that wait in the client's tasks, which the database counts.
    """

    def __init__(
        self, counters: ClientUsage, client: Client, limits: Limits, task_images: int = 0
    ) -> None:
        self.limits = limits
        self.task_images = task_images
        self._counters = counters
        self._client = client
        self._counted: CountedClient | None = None
        self._images = 0
        self._body_bytes = 0

    def begin(self, now: float) -> None:
        """Count the request. `end` must follow.

        Raises:
            TooManyRequests: the client is over a limit. Nothing is counted.
        """
        if not self.limits:
            return
        counted = self._counters.counted(self._client.name, now)
        total = self._counters.total(counted)
        self._check_rate(total, now)
        limit = self.limits.concurrent
        check(total.concurrent + 1, limit, "requests at the same time", "concurrent")
        counted.usage.current += 1
        counted.usage.concurrent += 1
        self._counted = counted
        self._counters.publish(counted)

    def count_refused(self, now: float) -> None:
        """Count a request that has no valid key, whatever it asks for.

        Raises:
            TooManyRequests: the client has sent too many requests.
        """
        if self.limits:
            counted = self._counters.counted(self._client.name, now)
            self._check_rate(self._counters.total(counted), now)
            counted.usage.current += 1
            self._counters.publish(counted)

    def hold_images(self, number: int) -> None:
        """Count images that wait until the request is finished.

        Raises:
            TooManyImages: the client may never have so many waiting images.
            TooManyRequests: too many images of the client would wait.
        """
        if self._counted is not None and self.limits.images:
            check_images(self._images + number, self.limits.images)
            total = self._counters.total(self._counted)
            check(total.images + number, self.limits.images, "waiting images", "images")
            self._images += number
            self._counted.usage.images += number
            self._counters.publish(self._counted)

    def hold_body(self, size: int) -> None:
        """Count more bytes of the body, until the request is finished.

        Raises:
            ClientBodyTooLarge: the client may never send so many bytes at once.
            TooManyRequests: the bodies of the client would be too large together.
        """
        if self._counted is not None and self.limits.body_bytes:
            # guard: no-retry-of-what-never-fits
            check_body(self._body_bytes + size, self.limits.body_bytes)
            total = self._counters.total(self._counted)
            limit = self.limits.body_bytes
            check(total.body_bytes + size, limit, "in request bodies", "body_bytes", shown_size)
            self._body_bytes += size
            self._counted.usage.body_bytes += size
            self._counters.publish(self._counted)

    def end(self) -> None:
        """Take back what the request has added. It stays counted in its window."""
        if self._counted is not None:
            usage = self._counted.usage
            usage.concurrent -= 1
            usage.images -= self._images
            usage.body_bytes -= self._body_bytes
            self._counters.publish(self._counted)

    def _check_rate(self, total: Usage, now: float) -> None:
        limit, window = self.limits.requests, self._counters.window
        if not limit:
            return
        seconds = seconds_until_allowed(total, limit, window=window, elapsed=now % window)
        if seconds > 0:
            raise ClientLimited(
                f"this client may send {limit} requests in {window:g} seconds",
                limit="requests",
                retry_after=math.ceil(seconds),
            )


def check(
    number: int, limit: int | None, what: str, name: str, shown: Callable[[int], str] = str
) -> None:
    """Return if `number` is within the limit; 0 and None are no limit. Raises ClientLimited."""
    if limit and number > limit:
        message = f"this client may have {shown(limit)} {what}"
        raise ClientLimited(message, limit=name, retry_after=SOON)


def check_images(number: int, most: int) -> None:
    """Return if one request may have so many images. Raises TooManyImages."""
    if number > most:
        raise TooManyImages(
            f"the request has {number} images; at most {most} of this client may wait "
            "([clients] images, or images or share of its key); send fewer images in a request"
        )


def check_body(size: int, most: int) -> None:
    """Return if one request may have so many bytes. Raises ClientBodyTooLarge."""
    if size > most:
        raise ClientBodyTooLarge(
            f"the request is over {shown_size(most)}, which this client may send at once "
            "([clients] body_bytes, or body_bytes of its key); send fewer or smaller images in a "
            "request"
        )


def admission_of(request: Request) -> Admission:
    """Return the admission of this request."""
    admission: Admission = request.scope["state"]["admission"]
    return admission


def body_length(scope: Scope, limits: Limits) -> int | None:
    """Return the Content-Length of a request whose body counts, or None if it is not known."""
    if not limits.body_bytes:
        return None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def counted_body(admission: Admission, length: int | None, receive: Receive) -> Receive:
    """Return `receive` for a request. A body of unknown length is counted as it arrives."""
    if length is not None or not admission.limits.body_bytes:
        return receive

    async def counting() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            admission.hold_body(len(message.get("body", b"")))
        return message

    return counting
