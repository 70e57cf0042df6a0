"""The client for blocking code."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar, Unpack

import httpx2

from captiond.client import calls
from captiond.client.calls import Call, Pause, Reply, Steps
from captiond.client.caption_options import CaptionOptions
from captiond.client.events import EventReader, ended_early, result_of
from captiond.client.failures import RequestRefused, ServiceUnreachable
from captiond.client.pictures import Picture
from captiond.client.retrying import RetryPolicy
from captiond.client.transport import (
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    as_service_errors,
    base_arguments,
    reply_of,
    request_arguments,
    stream_arguments,
)
from captiond.client.typed_results import ImageCaption, TaskReport

T = TypeVar("T")


class Captiond:
    """A connection to a captiond service, for blocking code. Threads may share it.

    `key` is an API key, if the service demands one. `timeout` is in seconds, and applies to each
    wait for data of the service. `retry` says how long to repeat a call that may succeed later.

    All methods raise a `ServiceError` if the call fails.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._http = httpx2.Client(**base_arguments(url, key, timeout))
        self._retry = retry or RetryPolicy()

    def caption(self, picture: Picture, **options: Unpack[CaptionOptions]) -> ImageCaption:
        """Caption one image.

        Raises:
            RequestRefused: the image cannot be captioned; `code` says why.
        """
        return self._run(calls.caption_one(picture, options, self._retry, time.monotonic))

    def caption_many(
        self, pictures: Iterable[Picture], **options: Unpack[CaptionOptions]
    ) -> list[ImageCaption]:
        """Caption several images in one request, and return the results in the order of the images.

        An image that cannot be captioned does not spoil the others: its result has `error` and
        `code`.
        """
        return self._run(calls.caption_several(pictures, options, self._retry, time.monotonic))

    def submit(
        self,
        pictures: Iterable[Picture],
        *,
        idempotency_key: str | None = None,
        callback_url: str | None = None,
        **options: Unpack[CaptionOptions],
    ) -> "CaptionTask":
        """Submit several images as a task, and return it at once.

        The service finishes the task even if this program or a process of the service ends. A
        program that may be restarted gives its own `idempotency_key`: the same images under the
        same key are the same task.
        """
        steps = calls.submit_task(
            pictures, options, idempotency_key, callback_url, self._retry, time.monotonic
        )
        return self.task(self._run(steps))

    def task(self, task_id: str) -> "CaptionTask":
        """Return the task with this id. Nothing is sent."""
        return CaptionTask(self, task_id)

    def version(self) -> str:
        """Return the version of the service. This call needs no key."""
        return self._run(calls.version_of(self._retry, time.monotonic))

    def info(self) -> dict[str, Any]:
        """Return what the service says of itself: model, limits, queue."""
        return self._run(calls.describe_service(self._retry, time.monotonic))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        """Carry out the steps of a call, and return its result."""
        reply: Reply | None = None
        failure: ServiceUnreachable | None = None
        while True:
            try:
                step = steps.send(reply) if failure is None else steps.throw(failure)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = failure = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                reply = self._send(step)
            except ServiceUnreachable as error:
                failure = error

    def _send(self, call: Call) -> Reply:
        with as_service_errors(self._http):
            return reply_of(self._http.request(**request_arguments(call, self._http.timeout)))

    @contextmanager
    def _events(self, reader: EventReader) -> Iterator[Iterator[httpx2.ServerSentEvent]]:
        """The events of one connection."""
        with (
            as_service_errors(self._http),
            self._http.stream(**stream_arguments(reader, self._http.timeout)) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise calls.refusal(reply_of(response))
            yield iter(httpx2.EventSource(response))


class CaptionTask:
    """A task of a service. `id` is all that a later program needs to find it again."""

    def __init__(self, captiond: Captiond, task_id: str) -> None:
        self._captiond = captiond
        self.id = task_id

    def report(self) -> TaskReport:
        """Return the state of the task."""
        return self._run(calls.report_task(self.id, 0, self._retry, time.monotonic))

    def wait(self, seconds: float | None = None) -> TaskReport:
        """Wait until the task is finished, and return its state.

        Raises:
            WaitTimeout: it was not finished in `seconds` seconds. It goes on.
        """
        return self._run(calls.wait_for_task(self.id, seconds, self._retry, time.monotonic))

    def results(self) -> Iterator[ImageCaption]:
        """Yield each result as soon as it is there, until the task is finished.

        A connection that breaks is replaced, and no result is yielded twice.
        """
        reader = EventReader(self.id, self._retry, time.monotonic)
        while True:
            try:
                with self._captiond._events(reader) as events:
                    for event in events:
                        if reader.ends(event):
                            return
                        if (result := result_of(event)) is not None:
                            yield result
                raise ended_early()
            except (ServiceUnreachable, RequestRefused) as error:
                time.sleep(reader.pause_after(error))

    def cancel(self) -> TaskReport:
        """Cancel the task: images that have not begun are not captioned any more.

        Raises:
            RequestRefused: the task is finished already; `code` is `task_finished`.
        """
        return self._run(calls.cancel_task(self.id, self._retry, time.monotonic))

    @property
    def _retry(self) -> RetryPolicy:
        return self._captiond._retry

    def _run(self, steps: Steps[T]) -> T:
        return self._captiond._run(steps)
