"""Who works on what: interactive images that wait, and the images each model process has in hand.

Pure: messages in, assignments out. What is in the database is read and written elsewhere.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from captiond.errors import QueueFull, WorkerLost
from captiond.jobs import Death, Lane, Refused, blame
from captiond.messages import Answer, Ask, Finished, Withdraw, Work

MAX_ATTEMPTS = 2  # of an interactive image, whose client is told 503 then


@dataclass(slots=True)
class Hands:
    """A model process: up to `window` images of each lane; it is captioning those in `running`."""

    window: int
    work: dict[str, Work] = field(default_factory=dict)
    running: frozenset[str] = frozenset()

    def room(self, lane: Lane) -> int:
        return self.window - sum(1 for work in self.work.values() if work.lane is lane)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer for a web process."""

    web: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Work that a model process is to drop."""

    model: str
    message: Withdraw


@dataclass(frozen=True, slots=True)
class Loss:
    """What follows from the death of a model process.

    `blamed` are points of blame by image id; `bulk` is the bulk work that was in its hands.
    """

    replies: list[Reply]
    blamed: dict[int, int]
    bulk: list[Work]


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

    # ------------------------------------------------------------ those who ask

    def ask(self, web: str, ask: Ask) -> list[Reply]:
        """A client's image joins the queue, or is answered at once if there is no room for it."""
        if self.waiting >= self._max_waiting:
            error = QueueFull(f"{self.waiting} images wait already; try again shortly")
            return [Reply(web, Answer(ask.ticket, Refused.of(error)))]
        ticket = f"{web}:{ask.ticket}"
        self._askers[ticket] = (web, ask.ticket)
        self._waiting.append(
            Work(ticket, Lane.INTERACTIVE, ask.image, attempt=1, options=ask.options)
        )
        return []

    def drop(self, web: str, ticket: int) -> list[Withdrawal]:
        """Nobody waits for this image any more: it is not begun, if it has not."""
        name = f"{web}:{ticket}"
        if self._askers.pop(name, None) is None:
            return []
        self._waiting = deque(work for work in self._waiting if work.ticket != name)
        return [Withdrawal(model, Withdraw(name)) for model in self._holders(name)]

    def _holders(self, ticket: str) -> list[str]:
        return [name for name, hands in self._models.items() if ticket in hands.work]

    def web_gone(self, web: str) -> list[Withdrawal]:
        gone = [asker for asker in self._askers.values() if asker[0] == web]
        return [withdrawal for asker in gone for withdrawal in self.drop(*asker)]

    def cancel(self, image_ids: frozenset[int]) -> list[Withdrawal]:
        """Nobody wants these bulk images any more."""
        return [
            Withdrawal(model, Withdraw(work.ticket))
            for model, hands in self._models.items()
            for work in hands.work.values()
            if work.image_id in image_ids
        ]

    # ------------------------------------------------------------ those who work

    def model_ready(self, model: str, window: int) -> None:
        self._models[model] = Hands(window)

    def has(self, model: str) -> bool:
        """Whether the model process is ready to take work."""
        return model in self._models

    def model_begun(self, model: str, tickets: tuple[str, ...]) -> None:
        self._models[model].running = frozenset(tickets)

    def running(self, model: str) -> frozenset[str]:
        """What the model process is captioning, as far as it has said."""
        hands = self._models.get(model)
        return hands.running & hands.work.keys() if hands else frozenset()

    def model_gone(self, model: str, death: Death) -> Loss:
        """A model process ended: its interactive images wait again, at the head of the queue.

        Those that have now lost their process twice are answered instead. What was being captioned
        is under suspicion, and goes alone from now on.
        """
        running = self.running(model)
        points = blame(death, len(running))
        hands = self._models.pop(model, Hands(0))
        held = list(hands.work.values())
        lost = [work for work in held if work.ticket in self._askers]
        spent = [work for work in lost if work.attempt >= MAX_ATTEMPTS]
        self._waiting.extendleft(
            replace(work, attempt=work.attempt + 1, alone=points > 0 and work.ticket in running)
            for work in reversed(lost)
            if work not in spent
        )
        error = WorkerLost("the model process died with this image in hand, twice; try again")
        return Loss(
            replies=[Reply(web, Answer(no, Refused.of(error))) for web, no in self._leave(spent)],
            blamed={
                work.image_id: points
                for work in held
                if points and work.ticket in running and work.image_id is not None
            },
            bulk=[work for work in held if work.lane is Lane.BULK],
        )

    def refuse_waiting(self, refused: Refused) -> list[Reply]:
        """Answer all images that no model process has: none will come for them."""
        waiting, self._waiting = [*self._waiting], deque()
        return [Reply(web, Answer(no, refused)) for web, no in self._leave(waiting)]

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

    def settle(self, model: str, finished: Finished) -> tuple[Work | None, list[Reply]]:
        """An image left a model's hands: its work, and the reply if somebody waits for it."""
        hands = self._models.get(model)
        work = hands.work.pop(finished.ticket, None) if hands else None
        asker = self._askers.pop(finished.ticket, None)
        if asker is None:
            return work, []
        web, ticket = asker
        return work, [Reply(web, Answer(ticket, finished.outcome, finished.timings))]

    def _assign(self, model: str, work: Work) -> tuple[str, Work]:
        self._models[model].work[work.ticket] = work
        return model, work

    def _roomiest(self, lane: Lane) -> str | None:
        rooms = {name: hands.room(lane) for name, hands in self._models.items()}
        best = max(rooms, key=rooms.__getitem__, default=None)
        return best if best is not None and rooms[best] > 0 else None
