"""Dispatch: which image goes to which model process. Pure: no I/O, no clock.

The interactive images that wait are kept here and nowhere else. Bulk images wait in the database;
here are only those that were claimed for a model process.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from captiond.errors import ModelNotReady, QueueFull, WorkerLost
from captiond.jobs import Death, Lane, Refused, blame
from captiond.messages import Answer, Ask, Finished, Withdraw, Work

MAX_ATTEMPTS = 2  # of an interactive image; after that its client is answered 503


@dataclass(slots=True)
class AssignedWork:
    """The work of one model process, ready or loading: at most `window` images of each lane.

    `running` are the tickets of the batch that it captions now.
    """

    window: int
    work: dict[str, Work] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    loading: bool = False

    def capacity(self, lane: Lane, *, known_only: bool = False) -> int:
        """Return how many more images of a lane the process can take.

        A process that is loading its model takes only those interactive images that are
        `known_only`, because the others would have to wait for it.
        """
        if self.loading and lane is Lane.INTERACTIVE and not known_only:
            return 0
        return self.window - sum(1 for work in self.work.values() if work.lane is lane)


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """An answer, and the web process that it is for."""

    web: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A `Withdraw` message, and the model process that it is for."""

    model: str
    message: Withdraw


@dataclass(frozen=True, slots=True)
class ModelExit:
    """What follows from the exit of a model process.

    `answers` go to clients at once. `blamed` holds points of blame by image id. `bulk` is the bulk
    work that the process had.
    """

    answers: list[WebAnswer]
    blamed: dict[int, int]
    bulk: list[Work]


class Dispatcher:
    """The interactive images that wait, and the work that each model process has."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[Work] = deque()
        self._known_only: deque[Work] = deque()
        self._requesters: dict[str, tuple[str, int]] = {}
        self._models: dict[str, AssignedWork] = {}

    @property
    def waiting(self) -> int:
        """The number of interactive images that no model process has yet."""
        return len(self._waiting) + len(self._known_only)

    # ------------------------------------------------------------ web processes

    def ask(self, web: str, ask: Ask) -> list[WebAnswer]:
        """Append a client's image to the queue, or refuse it.

        It is refused if the queue is full, and if it is `known_only` and no process can look it up:
        the next one may come half a minute later.
        """
        if ask.known_only and not self._models:
            no_model = ModelNotReady(("the model is being loaded",))
            return [WebAnswer(web, Answer(ask.ticket, Refused.of(no_model)))]
        if self.waiting >= self._max_waiting:
            error = QueueFull(f"{self.waiting} images wait already; try again shortly")
            return [WebAnswer(web, Answer(ask.ticket, Refused.of(error)))]
        ticket = f"{web}:{ask.ticket}"
        self._requesters[ticket] = (web, ask.ticket)
        work = Work(
            ticket,
            Lane.INTERACTIVE,
            ask.image,
            attempt=1,
            options=ask.options,
            known_only=ask.known_only,
        )
        self._queue_of(work).append(work)
        return []

    def _queue_of(self, work: Work) -> deque[Work]:
        return self._known_only if work.known_only else self._waiting

    def drop(self, web: str, ticket: int) -> list[Withdrawal]:
        """Remove an image whose client has gone, and withdraw it from the process that has it."""
        name = f"{web}:{ticket}"
        if self._requesters.pop(name, None) is None:
            return []
        for queue in (self._waiting, self._known_only):
            for work in [work for work in queue if work.ticket == name]:
                queue.remove(work)
        return [Withdrawal(model, Withdraw(name)) for model in self._holders(name)]

    def _holders(self, ticket: str) -> list[str]:
        return [name for name, assigned in self._models.items() if ticket in assigned.work]

    def web_exited(self, web: str) -> list[Withdrawal]:
        """Remove all images that a web process has asked for."""
        dropped = [requester for requester in self._requesters.values() if requester[0] == web]
        return [withdrawal for requester in dropped for withdrawal in self.drop(*requester)]

    def cancel(self, image_ids: frozenset[int]) -> list[Withdrawal]:
        """Withdraw those of these bulk images that model processes have."""
        return [
            Withdrawal(model, Withdraw(work.ticket))
            for model, assigned in self._models.items()
            for work in assigned.work.values()
            if work.image_id in image_ids
        ]

    # ------------------------------------------------------------ model processes

    def model_loading(self, model: str, window: int) -> None:
        """Let a process that is loading its model take up to `window` images of each lane.

        Its interactive images are those that are `known_only`.
        """
        self._models[model] = AssignedWork(window, loading=True)

    def model_ready(self, model: str, window: int) -> None:
        """Let a model process take up to `window` images of each lane at a time.

        It keeps the images that it took while it was loading its model.
        """
        assigned = self._models.setdefault(model, AssignedWork(window))
        assigned.window, assigned.loading = window, False

    def model_begun(self, model: str, tickets: tuple[str, ...]) -> None:
        """Note which images a model process captions now."""
        if model in self._models:
            self._models[model].running = frozenset(tickets)

    def running(self, model: str) -> frozenset[str]:
        """Return the tickets that a model process captions now, as far as it has reported."""
        assigned = self._models.get(model)
        return assigned.running & assigned.work.keys() if assigned else frozenset()

    def model_exited(self, model: str, death: Death) -> ModelExit:
        """Remove a model process; its interactive images return to the head of the queue.

        Images that lost their process for the second time are answered instead. Images that were
        being captioned get points of blame, and are captioned alone from now on.
        """
        running = self.running(model)
        points = blame(death, len(running))
        assigned = self._models.pop(model, AssignedWork(0))
        held = list(assigned.work.values())
        interactive = [work for work in held if work.ticket in self._requesters]
        # guard: lost-interactive-work-is-answered
        spent = [work for work in interactive if work.attempt >= MAX_ATTEMPTS]
        for work in reversed(interactive):
            if work not in spent:
                alone = points > 0 and work.ticket in running
                again = replace(work, attempt=work.attempt + 1, alone=alone)
                self._queue_of(work).appendleft(again)
        error = WorkerLost("the model process died twice while it had this image; try again")
        return ModelExit(
            answers=self._answer_all(spent, Refused.of(error)),
            blamed={
                work.image_id: points
                for work in held
                if points and work.ticket in running and work.image_id is not None
            },
            bulk=[work for work in held if work.lane is Lane.BULK],
        )

    def refuse_waiting(self, refused: Refused) -> list[WebAnswer]:
        """Answer all images that wait: no model process will take them."""
        waiting = [*self._known_only, *self._waiting]
        self._known_only.clear()
        self._waiting.clear()
        return self._answer_all(waiting, refused)

    def _answer_all(self, works: list[Work], refused: Refused) -> list[WebAnswer]:
        requesters = [self._requesters.pop(work.ticket) for work in works]
        return [WebAnswer(web, Answer(ticket, refused)) for web, ticket in requesters]

    def assign_interactive(self) -> Iterator[tuple[str, Work]]:
        """Assign waiting images, each to the model process with the most capacity."""
        for queue, known_only in ((self._known_only, True), (self._waiting, False)):
            while queue and (model := self._least_loaded(known_only=known_only)) is not None:
                yield self._assign(model, queue.popleft())

    def bulk_capacity(self) -> list[tuple[str, int]]:
        """Return the model processes that can take bulk images, and how many each can take.

        A process that is loading its model gets none while another one is ready: it could finish
        only those that are in the cache.
        """
        any_ready = not all(assigned.loading for assigned in self._models.values())
        capacities = (
            (name, assigned.capacity(Lane.BULK))
            for name, assigned in self._models.items()
            if not (assigned.loading and any_ready)
        )
        return [(name, capacity) for name, capacity in capacities if capacity > 0]

    def assign_bulk(self, model: str, work: Work) -> None:
        """Note that an image was claimed for a model process."""
        self._assign(model, work)

    def finish(self, model: str, finished: Finished) -> tuple[Work | None, list[WebAnswer]]:
        """Remove a finished image. Return its work, and the answer if a client waits for it."""
        assigned = self._models.get(model)
        work = assigned.work.pop(finished.ticket, None) if assigned else None
        requester = self._requesters.pop(finished.ticket, None)
        if requester is None:
            return work, []
        web, ticket = requester
        return work, [WebAnswer(web, Answer(ticket, finished.outcome, finished.timings))]

    def _assign(self, model: str, work: Work) -> tuple[str, Work]:
        self._models[model].work[work.ticket] = work
        return model, work

    def _least_loaded(self, *, known_only: bool) -> str | None:
        """Return the process that can take the most interactive images, if one can take any."""
        capacities = {
            name: assigned.capacity(Lane.INTERACTIVE, known_only=known_only)
            for name, assigned in self._models.items()
        }
        best = max(capacities, key=capacities.__getitem__, default=None)
        return best if best is not None and capacities[best] > 0 else None
