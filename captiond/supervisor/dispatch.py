"""Dispatch: which image goes to which model process. Pure: no I/O, no clock.

The interactive images that wait are kept here and nowhere else. Bulk images wait in the database;
here are only those that were claimed for a model process.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from captiond.clients import Client
from captiond.deaths import Death, blame
from captiond.errors import CaptiondError, ModelNotReady, QueueFull, WorkerLost
from captiond.jobs import Generation, Lane, Refused
from captiond.messages import Answer, Ask, Finished, Withdraw, Work
from captiond.queues.fairqueue import FairQueue
from captiond.shardimages import ShardImage

MAX_ATTEMPTS = 2  # of an interactive image; after that its client is answered 503
USUAL = Generation()  # whatever the settings choose, its cost is the same for all clients


@dataclass(slots=True)
class AssignedWork:
    """The work of one model process, ready or loading: at most `window` images of each lane.

    `reserve` more interactive images may be of clients that have no other image in any process.
    `running` are the tickets of the batch that it captions now. A `remote` one stands for the
    models of other nodes, and has no images of tasks.
    """

    window: int
    reserve: int = 0
    work: dict[str, Work] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    loading: bool = False
    remote: bool = False
    _held: Counter[Lane] = field(default_factory=Counter)

    def add(self, work: Work) -> None:
        self.work[work.ticket] = work
        self._held[work.lane] += 1

    def remove(self, ticket: str) -> Work | None:
        work = self.work.pop(ticket, None)
        if work is not None:
            self._held[work.lane] -= 1
        return work

    @property
    def at_work(self) -> frozenset[str]:
        """The tickets of unfinished images that it captions, also of images of imports.

        Images of imports are known here by their tickets only: the process claims them itself.
        """
        return frozenset(each for each in self.running if each in self.work or ShardImage.of(each))

    def held(self, lane: Lane) -> int:
        """Return how many images of a lane the process has."""
        return self._held[lane]

    def capacity(self, lane: Lane) -> int:
        """Return how many more images of a lane the process can take; negative in the reserve."""
        return self.window - self._held[lane]

    def takes(self, *, known_only: bool) -> bool:
        """Return whether the process takes such interactive images at all.

        A process that is loading its model takes only those that are `known_only`, because the
        others would have to wait for it.
        """
        return known_only or not self.loading


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """An answer, and the web process that it is for."""

    web: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Requester:
    """Who waits for an interactive image: a web process, by a ticket of its own."""

    web: str
    ticket: int
    work: Work


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A `Withdraw` message, and the model process that it is for."""

    model: str
    message: Withdraw


@dataclass(frozen=True, slots=True)
class ModelExit:
    """What follows from the exit of a model process.

    `answers` go to clients at once. `blamed` holds points of blame by image id, and
    `blamed_imported` those of images of imports. `bulk` is the bulk work that the process had.
    """

    answers: list[WebAnswer]
    blamed: dict[int, int]
    blamed_imported: dict[ShardImage, int]
    bulk: list[Work]


class Dispatcher:
    """The interactive images that wait, and the work that each model process has."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: FairQueue[Work] = FairQueue()
        self._known_only: FairQueue[Work] = FairQueue()
        self._requesters: dict[str, Requester] = {}
        self._models: dict[str, AssignedWork] = {}

    @property
    def waiting(self) -> int:
        """The number of interactive images that no model process has yet."""
        return len(self._waiting) + len(self._known_only)

    @property
    def busy(self) -> bool:
        """Whether any image waits or is with a model process."""
        return self.waiting > 0 or any(model.work for model in self._models.values())

    @property
    def waiting_since(self) -> float | None:
        """When the interactive image that waits the longest began to wait; None if none waits."""
        assigned = {ticket for each in self._models.values() for ticket in each.work}
        waiting = (
            requester.work.since
            for ticket, requester in self._requesters.items()
            if ticket not in assigned
        )
        return min(waiting, default=None)

    def in_progress(self, lane: Lane) -> int:
        """Return how many images of a lane model processes have."""
        return sum(assigned.held(lane) for assigned in self._models.values())

    def claimed(self) -> frozenset[int]:
        """Return the ids of all images of tasks that model processes have."""
        return frozenset[int]().union(*map(self.claimed_by, self._models))

    def whole_window(self) -> tuple[int, int]:
        """Return the windows of this node's model processes together, and their reserves."""
        ready = [each for each in self._models.values() if not each.loading and not each.remote]
        return sum(each.window for each in ready), sum(each.reserve for each in ready)

    def interactive_capacity(self) -> int:
        """Return how many more interactive images model processes that are ready could take."""
        ready = [each for each in self._models.values() if not each.loading]
        capacity = sum(max(0, each.capacity(Lane.INTERACTIVE)) for each in ready)
        return max(0, capacity - self.waiting)

    def claimed_by(self, model: str) -> frozenset[int]:
        """Return the ids of the images that were claimed for a model process and that it has."""
        work = self._models[model].work.values() if model in self._models else ()
        return frozenset(each.image_id for each in work if each.image_id is not None)

    # ------------------------------------------------------------ web processes

    def ask(self, web: str, ask: Ask) -> list[WebAnswer]:
        """Append the images of a request to the queue, or refuse all of them.

        They are refused if the queue is full, and if they are `known_only` and no process can look
        them up: the next one may come half a minute later.
        """
        if ask.known_only and not self._models:
            return refused_whole(web, ask, ModelNotReady(("the model is being loaded",)))
        if not self._has_room(ask.client, len(ask.images)):
            error = QueueFull(f"{self.waiting} images wait already; try again shortly")
            return refused_whole(web, ask, error)
        for number, image in enumerate(ask.images, ask.ticket):
            work = Work(
                f"{web}:{number}",
                Lane.INTERACTIVE,
                image,
                attempt=1,
                options=ask.options,
                known_only=ask.known_only,
                client=ask.client,
                since=ask.since,
            )
            self._requesters[work.ticket] = Requester(web, number, work)
            self._queue_of(work).put(work.client, work.ticket, work, cost_of(work))
        return []

    def _has_room(self, client: Client, images: int) -> bool:
        """Return whether a request may wait.

        A client that has no image waiting may always send one request, unless there are as many
        clients as images may wait. Any further request has to fit into the client's share and into
        the queue. The share leaves one for a further client, so nobody can fill the queue.
        """
        mine = self._waiting.waiting(client.name) + self._known_only.waiting(client.name)
        clients = self._waiting.clients + self._known_only.clients
        if mine == 0:
            return clients < self._max_waiting
        share = min(1.0, client.weight / (clients + 1)) * self._max_waiting
        return mine + images <= share and self.waiting + images <= self._max_waiting

    def _queue_of(self, work: Work) -> FairQueue[Work]:
        return self._known_only if work.known_only else self._waiting

    def drop(self, web: str, tickets: Iterable[int]) -> list[Withdrawal]:
        """Remove images whose client has gone, and withdraw them from the processes with them."""
        names = [f"{web}:{ticket}" for ticket in tickets]
        return [withdrawal for name in names for withdrawal in self._drop(name)]

    def _drop(self, name: str) -> list[Withdrawal]:
        requester = self._requesters.pop(name, None)
        if requester is None:
            return []
        work = requester.work
        if self._queue_of(work).remove(work.client.name, name) is not None:
            return []
        return [
            Withdrawal(model, Withdraw(name))
            for model, assigned in self._models.items()
            if name in assigned.work
        ]

    def web_exited(self, web: str) -> list[Withdrawal]:
        """Remove all images that a web process has asked for."""
        dropped = [name for name, asked in self._requesters.items() if asked.web == web]
        return [withdrawal for name in dropped for withdrawal in self._drop(name)]

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

    def model_ready(
        self, model: str, window: int, reserve: int = 0, *, remote: bool = False
    ) -> None:
        """Let a model process take up to `window` images of each lane at a time.

        It takes `reserve` more interactive images of clients that have no other image in any
        process. It keeps the images that it took while it was loading its model.
        """
        assigned = self._models.setdefault(model, AssignedWork(window))
        assigned.window, assigned.reserve, assigned.loading = window, reserve, False
        assigned.remote = remote

    def model_begun(self, model: str, tickets: tuple[str, ...]) -> None:
        """Note which images a model process captions now."""
        if model in self._models:
            self._models[model].running = frozenset(tickets)

    def running(self, model: str) -> frozenset[str]:
        """Return the tickets that a model process captions now, as far as it has reported."""
        assigned = self._models.get(model)
        return assigned.at_work if assigned else frozenset()

    def running_work(self, model: str) -> list[Work]:
        """Return the images that a model process captions now, without those of imports."""
        running = self.running(model)
        held = self._models[model].work if model in self._models else {}
        return [work for ticket, work in held.items() if ticket in running]

    def model_exited(self, model: str, death: Death) -> ModelExit:
        """Remove a model process; its interactive images are the next ones of their clients.

        Images that lost their process for the second time are answered instead. Images that were
        being captioned get points of blame, and are captioned alone from now on.
        """
        running = self.running(model)
        points = blame(death, len(running))
        assigned = self._models.pop(model, AssignedWork(0))
        held = list(assigned.work.values())
        spent = []
        for work in reversed(held):
            if work.lane is Lane.BULK:
                continue
            # guard: lost-interactive-work-is-answered
            is_spent = work.attempt >= MAX_ATTEMPTS
            if work.ticket in self._requesters and not is_spent:
                self._put_back(work, alone=points > 0 and work.ticket in running)
            else:
                self._queue_of(work).finished(work.client.name)
                spent.append(work)
        error = WorkerLost("the model process died twice while it had this image; try again")
        return ModelExit(
            answers=self._answer_all(reversed(spent), Refused.of(error)),
            blamed={
                work.image_id: points
                for work in held
                if points and work.ticket in running and work.image_id is not None
            },
            blamed_imported={
                image: points for each in running if points and (image := ShardImage.of(each))
            },
            bulk=[work for work in held if work.lane is Lane.BULK],
        )

    def _put_back(self, work: Work, *, alone: bool) -> None:
        again = replace(work, attempt=work.attempt + 1, alone=alone)
        self._requesters[work.ticket] = replace(self._requesters[work.ticket], work=again)
        self._queue_of(again).put_back(again.client, again.ticket, again, cost_of(again))

    def refuse_waiting(self, refused: Refused) -> list[WebAnswer]:
        """Answer all images that wait: no model process will take them."""
        return self._answer_all([*self._known_only.clear(), *self._waiting.clear()], refused)

    def _answer_all(self, works: Iterable[Work], refused: Refused) -> list[WebAnswer]:
        """Return the answers to all of these images whose clients still wait."""
        asked = [self._requesters.pop(work.ticket, None) for work in works]
        return [WebAnswer(who.web, Answer(who.ticket, refused)) for who in asked if who]

    def assign_interactive(self) -> Iterator[tuple[str, Work]]:
        """Assign waiting images in their turns, each to the process with the most capacity."""
        for queue, known_only in ((self._known_only, True), (self._waiting, False)):
            while queue and (model := self._model_for(queue, known_only=known_only)) is not None:
                yield self._assign(model, queue.take())

    def _model_for(self, queue: FairQueue[Work], *, known_only: bool) -> str | None:
        """Return the process that has the most capacity, if it can take the next image.

        A client that has no image in any process can use the reserve. Otherwise it would wait until
        an image of another client is finished, which may take long.
        """
        capacities = {
            name: assigned.capacity(Lane.INTERACTIVE)
            for name, assigned in self._models.items()
            if assigned.takes(known_only=known_only)
        }
        best = max(capacities, key=capacities.__getitem__, default=None)
        if best is None or capacities[best] > 0:
            return best
        # guard: reserve-for-new-clients
        is_new = queue.taken(queue.first()[0].name) == 0
        return best if is_new and capacities[best] + self._models[best].reserve > 0 else None

    def bulk_capacity(self) -> list[tuple[str, int]]:
        """Return the model processes that can take bulk images, and how many each can take.

        A process that is loading its model gets none while another one is ready: it could finish
        only those that are in the cache.
        """
        any_ready = not all(assigned.loading for assigned in self._models.values())
        capacities = (
            (name, assigned.capacity(Lane.BULK))
            for name, assigned in self._models.items()
            if not assigned.remote and not (assigned.loading and any_ready)
        )
        return [(name, capacity) for name, capacity in capacities if capacity > 0]

    def assign_bulk(self, model: str, work: Work) -> None:
        """Note that an image was claimed for a model process."""
        self._assign(model, work)

    def finish(self, model: str, finished: Finished) -> tuple[Work | None, list[WebAnswer]]:
        """Remove a finished image. Return its work, and the answer if a client waits for it."""
        assigned = self._models.get(model)
        work = assigned.remove(finished.ticket) if assigned else None
        if work is not None and work.lane is Lane.INTERACTIVE:
            self._queue_of(work).finished(work.client.name)
        requester = self._requesters.pop(finished.ticket, None)
        if requester is None:
            return work, []
        answer = Answer(requester.ticket, finished.outcome, finished.timings)
        return work, [WebAnswer(requester.web, answer)]

    def _assign(self, model: str, work: Work) -> tuple[str, Work]:
        self._models[model].add(work)
        return model, work


def cost_of(work: Work) -> float:
    """Return the estimated cost of a caption. The settings' defaults count as the usual ones."""
    return work.options.cost(USUAL)


def refused_whole(web: str, ask: Ask, error: CaptiondError) -> list[WebAnswer]:
    """Return an answer to each image of a request that is refused."""
    refused = Refused.of(error)
    tickets = range(ask.ticket, ask.ticket + len(ask.images))
    return [WebAnswer(web, Answer(ticket, refused)) for ticket in tickets]
