"""The events of a task without input and output: what has come, and when to reconnect."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from httpx2 import ServerSentEvent

from captiond.client.calls import TASKS, Clock, json_object, pause_after, understood
from captiond.client.failures import RequestRefused, ServiceUnreachable
from captiond.client.retrying import RetryPolicy
from captiond.client.typed_results import ImageCaption, image_caption


@dataclass(slots=True)
class EventReader:
    """Reads the results of one task from its events, over as many connections as it takes."""

    task_id: str
    retry: RetryPolicy
    clock: Clock
    _last_id: str = ""
    _failures: int = 0
    _failing_since: float = field(default=0.0)

    @property
    def path(self) -> str:
        return f"{TASKS}/events/{self.task_id}"

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the next connection: it goes on after the last event that has come."""
        return {"Last-Event-ID": self._last_id} if self._last_id else {}

    def ends(self, event: ServerSentEvent) -> bool:
        """Take note of an event. Return whether it is the last one of the task."""
        if event.event != "reconnect":  # it says that the stream could not go on
            self._failures = 0
        self._last_id = event.id or self._last_id
        return event.event == "end"

    def pause_after(self, error: ServiceUnreachable | RequestRefused) -> float:
        """Return the seconds to wait before the next connection, after one that has failed.

        Raises:
            RequestRefused, ServiceUnreachable: another connection would not help.
        """
        if not self._failures:
            self._failing_since = self.clock()
        self._failures += 1
        elapsed = self.clock() - self._failing_since
        pause = pause_after(error, self._failures, elapsed, self.retry)
        if pause is None:
            raise error
        return pause


def result_of(event: ServerSentEvent) -> ImageCaption | None:
    """Return the result that an event carries, if any.

    Raises:
        AnswerNotUnderstood: it is not one of captiond's.
    """
    if event.event != "image":
        return None
    return understood(image_caption, json_object(event.data))


def ended_early() -> ServiceUnreachable:
    """Return the error for a connection that has ended before the task: the service stops."""
    return ServiceUnreachable("the service has closed the connection before the task was finished")
