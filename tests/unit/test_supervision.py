"""Health as clients see it, restarts, and what a stop demands of child processes."""

import asyncio
import errno
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from captiond.cli.serve_command import on_signal
from captiond.deaths import Death
from captiond.errors import StorageFailed
from captiond.host.systemd import Notifier
from captiond.messages import Drain, Health, Message, ModelInfo, Ready, State, Unready
from captiond.processes.channel import Channel, ChannelClosed
from captiond.processes.children import ChildProcess
from captiond.processes.start import Start, import_when_idle
from captiond.processes.version import OTHER_VERSION
from captiond.settings.config import DataSettings, Settings
from captiond.store.outage import StorageOutage
from captiond.supervisor.health import ModelHealth
from captiond.supervisor.restarter import Restarter
from captiond.supervisor.roster import ChildKind, Demand, DrainStage, Roster, demand
from captiond.supervisor.statusboard import StatusBoard
from tests.patience import PATIENCE
from tests.unit.supervised import DRAINABLE, spawned, starting, until

MODEL = ModelInfo("m", "m", "f", "cpu", "float32", 8)


def test_from_starting_over_healthy_to_degraded_and_back() -> None:
    health = ModelHealth({"model0": None})
    assert health.state(draining=False).health is Health.STARTING
    health.report("model0", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY
    assert health.state(draining=False).model == MODEL
    health.exited("model0", Death.CRASHED)
    assert health.state(draining=False).health is Health.DEGRADED
    health.report("model0", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY
    assert health.state(draining=True).draining


def test_a_missing_model_stays_the_reason_while_the_next_attempt_is_made() -> None:
    health = ModelHealth({"model0": None})
    health.report("model0", Unready("run captiond pull", "model_missing"))
    health.exited("model0", Death.CRASHED)
    state = health.state(draining=False)
    assert (state.health, state.code) == (Health.UNHEALTHY, "model_missing")
    assert state.reasons == ("run captiond pull",)


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (Death.KILLED, "more memory"),
        (Death.CRASHED, "the log has the reason"),
        (Death.HUNG, "the log has more"),
    ],
)
def test_a_process_that_never_reports_does_not_load_for_ever(death: Death, words: str) -> None:
    """torch cannot be imported, or the kernel kills each process because memory is short."""
    health = ModelHealth({"model0": None})
    health.exited("model0", death)
    assert health.state(draining=False).health is Health.STARTING, "it may have been an accident"
    for _ in range(2):
        health.exited("model0", death)
        state = health.state(draining=False)
        assert (state.health, state.code) == (Health.UNHEALTHY, "model_broken")
        assert words in state.reasons[0]
    health.report("model0", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY
    health.exited("model0", death)
    health.exited("model0", death)
    assert health.state(draining=False).health is Health.DEGRADED, "one silent exit so far"


def test_one_device_of_two_is_enough() -> None:
    health = ModelHealth({"model0": None, "model1": None})
    health.report("model0", Unready("no such GPU", "model_broken"))
    health.report("model1", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY


def test_every_state_says_how_much_the_spool_can_take() -> None:
    board = StatusBoard(Roster(), Notifier({}), ["model0"])
    board.spool_measured(5)
    board.disk_measured(7, writable=True)
    states = [board.state]
    board.model_reported("model0", Unready("no such GPU", "model_broken"))
    states.append(board.state)
    board.model_reported("model0", Ready(MODEL, 24))
    states.append(board.state)
    board.model_exited("model0", Death.CRASHED)
    states.append(board.state)
    assert [state.health for state in states] == [
        Health.STARTING,
        Health.UNHEALTHY,
        Health.HEALTHY,
        Health.DEGRADED,
    ]
    assert {(state.spool_free, state.disk_free) for state in states} == {(5, 7)}


# ---------------------------------------------------------------- restarts


@pytest.mark.anyio
async def test_a_start_that_the_machine_refuses_is_tried_again() -> None:
    stop, tries = asyncio.Event(), 0

    def refuse(name: str, connection: "Connection[Message, Message]") -> Start:
        nonlocal tries
        tries += 1
        if tries == 2:
            stop.set()
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    async def attend(restarter: Restarter, child: ChildProcess) -> None:
        raise AssertionError(f"{child.name} of {restarter.role} was started")

    await Restarter("model0", DRAINABLE, refuse, attend).run(stop)
    assert tries == 2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=DataSettings(dir=tmp_path))


async def never_called(restarter: Restarter, child: ChildProcess) -> None:
    raise AssertionError(f"{child.name} of {restarter.role} was started")


@pytest.mark.anyio
async def test_a_standby_that_is_started_after_the_stop_is_killed(settings: Settings) -> None:
    """The stop may come while the standby is being started: nobody else would end it."""
    stop = asyncio.Event()
    stop.set()
    restarter = Restarter("model0", DRAINABLE, starting(settings), never_called)
    await restarter.run(stop)
    before = set(multiprocessing.active_children())
    await restarter.prepare_standby()
    for child in set(multiprocessing.active_children()) - before:
        child.join(PATIENCE)
        exit_code = child.exitcode
        child.kill()
        assert exit_code is not None, "the standby outlives the stop"


@pytest.mark.anyio
async def test_a_standby_that_is_needed_before_its_imports_are_done_is_killed(
    settings: Settings,
) -> None:
    """It imports at the lowest priority, which may take minutes on a busy machine."""
    restarter = Restarter("model0", "tests.unit.endless_import", starting(settings), never_called)
    before = set(multiprocessing.active_children())
    preparing = asyncio.create_task(restarter.prepare_standby())
    await until(lambda: set(multiprocessing.active_children()) != before)
    (child,) = set(multiprocessing.active_children()) - before
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    child.join(PATIENCE)
    exit_code = child.exitcode
    child.kill()
    assert exit_code == -signal.SIGKILL


@pytest.mark.anyio
async def test_a_standby_that_dies_before_its_imports_are_done_is_noticed(
    settings: Settings,
) -> None:
    restarter = Restarter("model0", "tests.unit.no_such_module", starting(settings), never_called)
    with pytest.raises(ChannelClosed):
        await restarter.prepare_standby()


def test_a_standby_imports_at_idle_priority_and_runs_at_normal_priority() -> None:
    assert import_when_idle("tests.unit.priority_of_import").POLICY == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_standby_imports_where_the_kernel_refuses_idle_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert import_when_idle("tests.unit.priority_of_import").__name__


@pytest.mark.anyio
async def test_a_child_whose_channel_cannot_be_opened_is_killed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> Channel:
        raise OSError(errno.EMFILE, "Too many open files")

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(Channel, "open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        await ChildProcess.spawn("web0-1", DRAINABLE, starting(settings))
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.anyio
async def test_a_child_of_an_other_version_than_the_service_ends(settings: Settings) -> None:
    def start(name: str, connection: "Connection[Message, Message]") -> Start:
        return Start(name, os.getpid(), settings, connection, version="0.0.1")

    child = await ChildProcess.spawn("web0-1", DRAINABLE, start)
    child.channel.send(Drain())
    async with asyncio.timeout(PATIENCE):
        assert await child.exited() == OTHER_VERSION
    child.close()


def test_a_start_knows_its_role(settings: Settings) -> None:
    ours, _ = multiprocessing.Pipe()
    assert Start("model0-0a1b", 1, settings, ours).role == "model0"


# ---------------------------------------------------------------- drain


@pytest.mark.parametrize(
    ("stage", "web", "loading", "ready"),
    [
        (DrainStage.SERVING, Demand.NOTHING, Demand.NOTHING, Demand.NOTHING),
        (DrainStage.ANNOUNCED, Demand.NOTHING, Demand.NOTHING, Demand.NOTHING),
        (DrainStage.WEB, Demand.DRAIN, Demand.NOTHING, Demand.NOTHING),
        (DrainStage.MODEL, Demand.DRAIN, Demand.KILL, Demand.DRAIN),
        (DrainStage.OVERDUE, Demand.KILL, Demand.KILL, Demand.KILL),
    ],
)
def test_what_each_stage_of_a_stop_demands(
    stage: DrainStage, web: Demand, loading: Demand, ready: Demand
) -> None:
    assert demand(stage, ChildKind.WEB, ready=False) is web
    assert demand(stage, ChildKind.MODEL, ready=False) is loading
    assert demand(stage, ChildKind.MODEL, ready=True) is ready


@pytest.mark.anyio
async def test_a_web_process_that_is_added_during_a_stop_is_drained(settings: Settings) -> None:
    roster = Roster()
    async with spawned(settings, "web0-1") as early, spawned(settings, "web0-2") as late:
        roster.add(ChildKind.WEB, early)
        roster.advance(DrainStage.ANNOUNCED)
        roster.advance(DrainStage.WEB)
        roster.add(ChildKind.WEB, late)
        roster.advance(DrainStage.MODEL)
        assert [await child.exited() for child in (early, late)] == [1, 1]


@pytest.mark.anyio
async def test_a_model_process_that_is_added_during_a_stop_ends(settings: Settings) -> None:
    """In time for the requests of web processes it may still caption; after that it is killed."""
    roster = Roster()
    async with spawned(settings, "model0-1") as ready, spawned(settings, "model0-2") as loading:
        roster.advance(DrainStage.WEB)
        roster.add(ChildKind.MODEL, ready)
        roster.mark_ready(ready.name)
        roster.add(ChildKind.MODEL, loading)
        roster.advance(DrainStage.MODEL)
        assert await ready.exited() == 1
        assert await loading.exited() == -9
        async with spawned(settings, "model0-3") as late:
            roster.add(ChildKind.MODEL, late)
            assert await late.exited() == -9


@pytest.mark.anyio
async def test_messages_to_a_process_that_has_exited_are_dropped(settings: Settings) -> None:
    roster = Roster()
    async with spawned(settings, "web0-1") as child:
        roster.add(ChildKind.WEB, child)
        assert roster.has(ChildKind.WEB)
        roster.send(ChildKind.WEB, child.name, Drain())
        await child.exited()
        roster.broadcast(ChildKind.WEB, State())
        roster.remove(ChildKind.WEB, child)
        roster.send(ChildKind.WEB, child.name, Drain())
        assert not roster.has(ChildKind.WEB)
        assert not roster.has(ChildKind.WEB, child.name)


# ---------------------------------------------------------------- signals


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
async def test_a_signal_for_the_supervisor_does_not_end_a_child_that_has_just_been_started(
    settings: Settings, number: signal.Signals
) -> None:
    async with spawned(settings, "web0-1") as child:
        assert child.process.pid is not None
        os.kill(child.process.pid, number)
        child.channel.send(Drain())
        assert await child.exited() == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_the_signal_for_metrics_is_ignored_after_the_stop() -> None:
    called = asyncio.Event()

    async def signalled() -> None:
        with on_signal(signal.SIGUSR1, called.set, after=signal.SIG_IGN):
            os.kill(os.getpid(), signal.SIGUSR1)
            await called.wait()

    before = signal.getsignal(signal.SIGUSR1)
    try:
        asyncio.run(signalled())
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


# ---------------------------------------------------------------- failures of the storage


def test_a_failing_database_is_logged_once_for_each_change() -> None:
    from structlog.testing import capture_logs

    outage = StorageOutage("claim of images")
    with capture_logs() as logged:
        for reason in ("read-only", "read-only", "full", None, None, "full"):
            with outage.tolerated():
                if reason is not None:
                    raise StorageFailed(reason)
    assert [(entry["event"], entry.get("reason")) for entry in logged] == [
        ("storage_failing", "read-only"),
        ("storage_failing", "full"),
        ("storage_recovered", None),
        ("storage_failing", "full"),
    ]


def fail_with(error: Exception) -> None:
    raise error


def test_only_failures_of_the_storage_are_tolerated() -> None:
    outage = StorageOutage("measurement of the spool")
    with outage.tolerated():
        fail_with(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(ZeroDivisionError), outage.tolerated():
        fail_with(ZeroDivisionError())
