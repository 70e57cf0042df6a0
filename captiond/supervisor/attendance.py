"""Attendance: handles one child process from its start until the clean-up after its exit."""

import asyncio
import contextlib
import math
import signal
from collections.abc import Callable

import structlog

from captiond.deaths import Death
from captiond.messages import Alive, Begun, Go, Message, Ready
from captiond.metrics import RESTARTS
from captiond.processes.channel import ChannelClosed
from captiond.processes.children import ChildProcess
from captiond.recording import Recorder
from captiond.settings.config import ModelSettings
from captiond.supervisor.assignment import Assignment
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.restarter import Restarter
from captiond.supervisor.roster import ChildKind, Roster
from captiond.supervisor.routing import Router
from captiond.supervisor.statusboard import StatusBoard
from captiond.supervisor.watch import TICK_SECONDS, Watch

log = structlog.get_logger()
WEB_SILENCE_TICKS = 60.0  # a web process reports every second that its event loop runs


class WebAttendance:
    """Handles the messages and the exit of web processes."""

    def __init__(
        self,
        roster: Roster,
        router: Router,
        status: StatusBoard,
        cleaner: SpoolCleaner,
        recorder: Recorder,
    ) -> None:
        self._roster = roster
        self._router = router
        self._status = status
        self._cleaner = cleaner
        self._recorder = recorder

    async def attend(self, restarter: Restarter, child: ChildProcess) -> None:
        """Pass on the messages of a web process, and clean up after its exit."""
        watch = Watch(WEB_SILENCE_TICKS, math.inf)

        def receive(message: Message) -> None:
            watch.received()
            if isinstance(message, Alive):
                restarter.mark_working()
            self._router.from_web(child.name, message)

        self._status.greet(child)
        self._roster.add(ChildKind.WEB, child)
        async with asyncio.TaskGroup() as group:
            # guard: hung-web-process
            watching = group.create_task(kill_when_hung(ChildKind.WEB, child, watch))
            code = await receive_until_exit(child, receive)
            watching.cancel()
        log_death(self._roster, ChildKind.WEB, child, code)
        self._roster.remove(ChildKind.WEB, child)
        self._router.web_exited(child.name)
        # guard: sweep-after-web-death
        self._cleaner.sweep(child.name)
        if not self._roster.draining:
            self._recorder.count(RESTARTS, ChildKind.WEB, death_of(code, watching))


class ModelAttendance:
    """Handles the messages and the exit of model processes."""

    def __init__(
        self,
        settings: ModelSettings,
        roster: Roster,
        router: Router,
        assignment: Assignment,
        cleaner: SpoolCleaner,
        recorder: Recorder,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._router = router
        self._assignment = assignment
        self._cleaner = cleaner
        self._recorder = recorder

    async def attend(self, restarter: Restarter, child: ChildProcess) -> None:
        """Pass on the messages of a model process, and requeue its claims after its exit."""
        watch = Watch(self._settings.silence_seconds, self._settings.batch_seconds)
        ready = asyncio.Event()

        def receive(message: Message) -> None:
            watch.received(new_batch=isinstance(message, Begun))
            if isinstance(message, Ready):
                ready.set()
                restarter.mark_working()
            self._router.from_model(restarter.role, child.name, message)

        child.channel.send(Go())
        self._roster.add(ChildKind.MODEL, child)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(
                kill_when_hung(
                    ChildKind.MODEL, child, watch, lambda: self._router.is_captioning(child.name)
                )
            )
            standby = group.create_task(self._prepare_standby(restarter, ready))
            code = await receive_until_exit(child, receive)
            watching.cancel()
            standby.cancel()
        # guard: death-blames-running-images
        death = self._death(code, watching)
        ids = self._router.ids_of_running(child.name)
        log_death(self._roster, ChildKind.MODEL, child, code, **ids)
        if not self._roster.draining:
            self._recorder.count(RESTARTS, ChildKind.MODEL, death)
        self._roster.remove(ChildKind.MODEL, child)
        exit_ = self._router.model_exited(restarter.role, child.name, death)
        # guard: requeue-after-death
        await self._assignment.requeue(child.name, exit_.blamed, exit_.blamed_imported)
        # A result may be stored whose `Finished` the process could not send any more.
        self._cleaner.remove_unneeded(work.image.file for work in exit_.bulk)

    async def _prepare_standby(self, restarter: Restarter, ready: asyncio.Event) -> None:
        """When a model is ready, let its replacement import its libraries, which takes long."""
        await ready.wait()
        if self._settings.standby and not self._roster.draining:
            try:
                await restarter.prepare_standby()
            except (OSError, ChannelClosed) as error:
                reason = str(error) or "it has exited"
                log.warning("standby_not_started", role=restarter.role, reason=reason)

    def _death(self, exit_code: int, watching: "asyncio.Task[Death]") -> Death:
        """Return how a process died, which decides how much its images are blamed."""
        if self._roster.draining:  # a stop may kill a process in the middle of a batch
            return Death.ORDERLY
        return death_of(exit_code, watching)


async def kill_when_hung(
    kind: ChildKind, child: ChildProcess, watch: Watch, is_busy: Callable[[], bool] = lambda: False
) -> Death:
    """Wait until a child is hung, and kill it. Return how it died.

    A process that was suspended with SIGSTOP is as silent as a hung one, but no image is to blame
    for that.
    """
    reason = None
    while reason is None:
        await asyncio.sleep(TICK_SECONDS)
        reason = watch.tick(busy=is_busy())
    stopped = child.is_stopped()
    log.error(
        "web_hung" if kind is ChildKind.WEB else "model_hung",
        child=child.name,
        reason=reason,
        stopped=stopped,
    )
    child.kill()
    return Death.KILLED if stopped else Death.HUNG


def death_of(exit_code: int, watching: "asyncio.Task[Death]") -> Death:
    """Return how a process died that `watching` may have killed."""
    if watching.done() and not watching.cancelled():
        return watching.result()
    return Death.by(exit_code)


def log_death(
    roster: Roster, kind: ChildKind, child: ChildProcess, exit_code: int, **ids: list[str]
) -> None:
    """Log that a child has died, unless it has ended well or a stop has killed it.

    `ids` are those of the requests and tasks whose images it was captioning.
    """
    wanted = roster.has_killed(child.name) and exit_code == -signal.SIGKILL
    # guard: a-stop-is-no-alarm
    if exit_code != 0 and not wanted:
        log.error(
            "web_died" if kind is ChildKind.WEB else "model_died",
            child=child.name,
            exit_code=exit_code,
            **ids,
        )


async def receive_until_exit(child: ChildProcess, receive: Callable[[Message], None]) -> int:
    """Pass a child's messages to `receive` until the child has exited. Return its exit code."""
    log.debug("child_started", child=child.name, pid=child.process.pid)
    with contextlib.suppress(ChannelClosed):
        while True:
            receive(await child.channel.receive())
    return await child.exited()
