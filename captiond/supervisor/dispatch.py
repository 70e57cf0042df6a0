"""Who works on what: interactive images that wait, and the images each model process has in hand.

Pure: messages in, assignments out. What is in the database is read and written elsewhere.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from captiond.errors import QueueFull, WorkerLost
from captiond.jobs import Lane, Refused
from captiond.messages import Answer, Ask, Done, Work

MAX_ATTEMPTS = 2  # of an interactive image, whose client is told 503 then


@dataclass(slots=True)
class Hands:
    """A model process: it takes up to `window` images of each lane at once."""

    window: int
    work: dict[str, Work] = field(default_factory=dict)

    def room(self, lane: Lane) -> int:
        return self.window - sum(1 for work in self.work.values() if work.lane is lane)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer for a web process."""

    web: str
    answer: Answer


class Dispatcher:
    """The supervisor's view of all work that is not merely a row in the database."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[Work] = deque()
        self._askers: dict[str, tuple[str, int]] = {}
        self._models: dict[str, Hands] = {}

    @property
    def waiting(self) -> int:
        """Interactive images that no model process has yet."""
        return len(self._waiting)

    def ask(self, web: str, ask: Ask) -> list[Reply]:
        """A client's image joins the queue, or is answered at once if there is no room for it."""
        if self.waiting >= self._max_waiting:
            error = QueueFull(f"{self.waiting} images wait already; try again shortly")
            return [Reply(web, Answer(ask.ticket, Refused.of(error)))]
        ticket = f"{web}:{ask.ticket}"
        self._askers[ticket] = (web, ask.ticket)
        self._waiting.append(
            Work(ticket, Lane.INTERACTIVE, ask.path, ask.sha256, attempt=1, options=ask.options)
        )
        return []

    def drop(self, web: str, ticket: int) -> None:
        """Nobody waits for this image any more; if it waits itself, it is not begun."""
        name = f"{web}:{ticket}"
        if self._askers.pop(name, None) is not None:
            self._waiting = deque(work for work in self._waiting if work.ticket != name)

    def web_gone(self, web: str) -> None:
        for name, number in [asker for asker in self._askers.values() if asker[0] == web]:
            self.drop(name, number)

    def model_ready(self, model: str, window: int) -> None:
        self._models[model] = Hands(window)

    def model_gone(self, model: str) -> list[Reply]:
        """A model process died: its interactive images wait again, at the head of the queue.

        Those that have now lost their process twice are answered instead.
        """
        hands = self._models.pop(model, Hands(0))
        lost = [work for work in hands.work.values() if work.ticket in self._askers]
        spent = [work for work in lost if work.attempt >= MAX_ATTEMPTS]
        again = [replace(work, attempt=work.attempt + 1) for work in lost if work not in spent]
        self._waiting.extendleft(reversed(again))
        error = WorkerLost("the model process died with this image in hand, twice; try again")
        return [Reply(web, Answer(ticket, Refused.of(error))) for web, ticket in self._leave(spent)]

    def _leave(self, works: list[Work]) -> Iterator[tuple[str, int]]:
        for work in works:
            yield self._askers.pop(work.ticket)

    def assign_interactive(self) -> Iterator[tuple[str, Work]]:
        """Hand the waiting images to the model processes that have room, evenly."""
        while self._waiting and (model := self._roomiest(Lane.INTERACTIVE)) is not None:
            yield self._assign(model, self._waiting.popleft())

    def bulk_room(self) -> list[tuple[str, int]]:
        """The model processes that can take bulk images, and how many."""
        rooms = ((name, hands.room(Lane.BULK)) for name, hands in self._models.items())
        return [(name, room) for name, room in rooms if room > 0]

    def assign_bulk(self, model: str, work: Work) -> None:
        """Note that `model` has an image that was claimed for it."""
        self._assign(model, work)

    def settle(self, model: str, done: Done) -> tuple[Work | None, list[Reply]]:
        """An image left a model's hands: its work, and the reply if somebody waits for it."""
        hands = self._models.get(model)
        work = hands.work.pop(done.ticket, None) if hands else None
        asker = self._askers.pop(done.ticket, None)
        if asker is None:
            return work, []
        web, ticket = asker
        return work, [Reply(web, Answer(ticket, done.outcome, done.timings))]

    def _assign(self, model: str, work: Work) -> tuple[str, Work]:
        self._models[model].work[work.ticket] = work
        return model, work

    def _roomiest(self, lane: Lane) -> str | None:
        rooms = {name: hands.room(lane) for name, hands in self._models.items()}
        best = max(rooms, key=rooms.__getitem__, default=None)
        return best if best is not None and rooms[best] > 0 else None
