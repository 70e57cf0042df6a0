"""Routing: what the supervisor does with each message of its children."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import structlog

from captiond.deaths import Death
from captiond.errors import CaptiondError, Draining, ModelNotReady, Withdrawn
from captiond.jobs import Lane, Refused
from captiond.logs import joined_ids
from captiond.messages import (
    Alive,
    Ask,
    AskMetrics,
    Begun,
    CacheReady,
    Cancelled,
    Drop,
    Finished,
    Health,
    Measured,
    Message,
    Queued,
    Ready,
    TasksChanged,
    Unready,
)
from captiond.metrics import IMAGES_FINISHED
from captiond.recording import Recorder, Registry
from captiond.supervisor.assignment import Assignment
from captiond.supervisor.changes import TaskChanges
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.courier import Courier
from captiond.supervisor.dispatch import Dispatcher, ModelExit, WebAnswer, Withdrawal
from captiond.supervisor.peers import Peers, Topic
from captiond.supervisor.roster import ChildKind, Roster
from captiond.supervisor.scrapes import Scrapes
from captiond.supervisor.statusboard import StatusBoard

log = structlog.get_logger()


class Router:
    """Carries messages between web processes, the dispatcher and model processes.

    Every method returns at once, so a message is handled before the next one is read.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        assignment: Assignment,
        roster: Roster,
        status: StatusBoard,
        cleaner: SpoolCleaner,
        courier: Courier,
        changes: TaskChanges,
        registry: Registry,
        recorder: Recorder,
        scrapes: Scrapes,
        peers: Peers,
    ) -> None:
        self._dispatcher = dispatcher
        self._assignment = assignment
        self._roster = roster
        self._status = status
        self._cleaner = cleaner
        self._courier = courier
        self._changes = changes
        self._registry = registry
        self._recorder = recorder
        self._scrapes = scrapes
        self._peers = peers
        peers.on(Topic.CANCELLED, lambda ids: self.withdraw_images(map(int, ids)))
        self.finished = 0  # images, since the start

    def from_web(self, web: str, message: Message) -> None:
        """Handle a message of a web process."""
        match message:
            case Alive():
                pass
            case Ask():
                self._refuse(self._dispatcher.ask(web, message))
                # guard: answer-in-a-drain
                self.refuse_if_stopping()
            case Drop(tickets):
                self._drop(partial(self._dispatcher.drop, web, tickets))
            case Queued():
                self._assignment.bulk_hint()
            case Cancelled(image_ids, file):
                self.withdraw_images(image_ids)
                if image_ids:
                    self._peers.say(Topic.CANCELLED, *map(str, image_ids))
                self._cleaner.remove([file] if file is not None else [])
            case TasksChanged(task_ids):
                self._changes.note(*task_ids)
            case Measured(measurements):
                self._registry.add(measurements, web)
            case AskMetrics(number):
                self._scrapes.ask(web, number)
            case _:
                raise TypeError(f"a web process sends no {type(message).__name__}")
        self._assignment.wake()

    def from_model(self, role: str, model: str, message: Message) -> None:
        """Handle a message of a model process; `role` is the same for all its replacements."""
        match message:
            case Alive():
                pass
            case CacheReady(window):
                self._dispatcher.model_loading(model, window)
                self._status.model_loading(role)
            case Ready(_, window, reserve):
                self._roster.mark_ready(model)
                self._dispatcher.model_ready(model, window, reserve)
                self._status.model_reported(role, message)
                log_ready(message)
            case Unready(reason, code):
                log.error("model_not_ready", reason=reason, code=code)
                self._status.model_reported(role, message)
                self._refuse_if_unhealthy()
            case Begun(tickets):
                self._dispatcher.model_begun(model, tickets)
            case Finished():
                self._finish(model, message)
            case Measured(measurements):
                self._registry.add(measurements, model)
            case _:
                raise TypeError(f"a model process sends no {type(message).__name__}")
        self._assignment.wake()

    def web_exited(self, web: str) -> None:
        """Withdraw the images that a web process has asked for."""
        self._drop(partial(self._dispatcher.web_exited, web))
        self._registry.forget(web)

    def model_exited(self, role: str, model: str, death: Death) -> ModelExit:
        """Return what follows from the exit of a model process, after its clients are answered.

        The state is published first: a client that is answered 503 may check at once whether to
        try again.
        """
        exit_ = self._dispatcher.model_exited(model, death)
        self._status.model_exited(role, death)
        self._registry.forget(model)
        self._refuse(exit_.answers)
        self.refuse_if_stopping()
        self._refuse_if_unhealthy()
        self._assignment.wake()
        return exit_

    def withdraw_images(self, image_ids: Iterable[int]) -> None:
        """Withdraw those of these images of tasks that model processes of this node have."""
        self._withdraw(self._dispatcher.cancel(frozenset(image_ids)))

    def remote_ready(self, name: str, ready: Ready) -> None:
        """Let the models of other nodes take images, which stand as one model process here."""
        self._dispatcher.model_ready(name, ready.window, ready.reserve, remote=True)
        self._status.model_reported(name, ready)
        self._assignment.wake()

    def remote_unready(self, name: str, unready: Unready) -> None:
        """Note that no other node captions, and why."""
        log.warning("no_node_captions", reason=unready.reason)
        self._status.model_reported(name, unready)
        self._refuse_if_unhealthy()

    def is_captioning(self, model: str) -> bool:
        """Return whether a model process captions a batch, as far as it has reported."""
        return bool(self._dispatcher.running(model))

    def ids_of_running(self, model: str) -> dict[str, list[str]]:
        """Return the requests and the tasks whose images a model process captions."""
        return joined_ids(work.ids for work in self._dispatcher.running_work(model))

    def refuse_if_stopping(self) -> None:
        """In a stop without a model process, answer what waits: none is started any more."""
        if self._roster.draining and not self._roster.has(ChildKind.MODEL):
            self._refuse_waiting(Draining("captiond is stopping; try again shortly"))

    def _refuse_if_unhealthy(self) -> None:
        """Answer what waits while no process can load the model: it would wait for its deadline."""
        if self._status.state.health is Health.UNHEALTHY:
            self._refuse_waiting(ModelNotReady(self._status.state.reasons))

    def _finish(self, model: str, finished: Finished) -> None:
        self.finished += 1
        work, answers = self._dispatcher.finish(model, finished)
        self._answer(answers)
        if work is None or work.lane is not Lane.BULK:
            return
        if finished.stored:
            self._status.bulk_finished()
            if work.task_id is not None:
                self._changes.note(work.task_id)
        if finished.task is not None:
            if not finished.task.keeps_file:
                self._cleaner.remove([work.image.file])
            self._courier.hint()

    def _refuse_waiting(self, error: CaptiondError) -> None:
        self._refuse(self._dispatcher.refuse_waiting(Refused.of(error)))

    def _refuse(self, answers: Sequence[WebAnswer]) -> None:
        """Answer images that no model process finishes, and count them."""
        for each in answers:
            if isinstance(each.answer.outcome, Refused):
                self._recorder.count(IMAGES_FINISHED, Lane.INTERACTIVE, each.answer.outcome.code)
        self._answer(answers)

    def _drop(self, drop: Callable[[], list[Withdrawal]]) -> None:
        """Withdraw images whose clients have gone. Count those that no model process has."""
        before = self._dispatcher.waiting
        self._withdraw(drop())
        if dropped := before - self._dispatcher.waiting:
            self._recorder.count(IMAGES_FINISHED, Lane.INTERACTIVE, Withdrawn.code, amount=dropped)

    def _answer(self, answers: Iterable[WebAnswer]) -> None:
        for answer in answers:
            self._roster.send(ChildKind.WEB, answer.web, answer.answer)

    def _withdraw(self, withdrawals: Iterable[Withdrawal]) -> None:
        for withdrawal in withdrawals:
            self._roster.send(ChildKind.MODEL, withdrawal.model, withdrawal.message)


def log_ready(ready: Ready) -> None:
    """Log which model captions, on which device."""
    model = ready.model
    log.info(
        "model_ready",
        model=model.name,
        device=model.device,
        precision=model.precision,
        batch_size=model.batch_size,
        **model.choices,
    )
