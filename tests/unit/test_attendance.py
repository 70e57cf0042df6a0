"""What the supervisor does while a child process runs, and after it has exited."""

import asyncio
import os
import signal
from collections.abc import Collection
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.deaths import BLAME_LIMIT, Death
from captiond.errors import StorageFailed, StoreRefused
from captiond.jobs import Captioned, FinishedTask, Lane, Refused, SpooledImage, Status
from captiond.messages import (
    Answer,
    Ask,
    Cancelled,
    Drop,
    Finished,
    Measured,
    MetricsAnswer,
    Queued,
    Ready,
    Work,
)
from captiond.metrics import CLAIMED, IMAGES_FINISHED, REQUEUED, RESTARTS, SPOOL_BYTES
from captiond.processes.children import ChildProcess
from captiond.recording import Measurements
from captiond.store import claims, tasks
from captiond.store.engine import Engine
from captiond.store.leases import owner_of
from captiond.supervisor import attendance
from captiond.supervisor.restarter import Restarter
from captiond.supervisor.roster import ChildKind, DrainStage
from captiond.supervisor.scrapes import Scrapes
from tests.unit.supervised import (
    DRAINABLE,
    NODE,
    Parts,
    background,
    nothing,
    spawned,
    starting,
    supervised,
    until,
)
from tests.unit.test_deliveries import task
from tests.unit.test_supervision import MODEL

pytestmark = pytest.mark.anyio
IMAGE = SpooledImage("web0-a", 0, 9, "sha")
CAPTION = Captioned("a cat", ("cat",), "m", 1, 1)


async def attend_nothing(restarter: Restarter, child: ChildProcess) -> None:
    raise AssertionError(f"{child.name} of {restarter.role} was started")


def restarter(parts: Parts, role: str) -> Restarter:
    return Restarter(role, DRAINABLE, starting(parts.settings), attend_nothing)


def spool(parts: Parts, *names: str) -> None:
    for name in names:
        (parts.settings.spool / name).touch()


def spooled(parts: Parts) -> set[str]:
    return {path.name for path in parts.settings.spool.iterdir()}


def counted(parts: Parts) -> dict[tuple[str, tuple[str, ...]], float]:
    return parts.recorder.take().counts


async def test_a_web_process_that_starts_during_a_stop_is_drained(
    store: Engine, tmp_path: Path
) -> None:
    """Without its `Drain`, it would be killed at the deadline, 30 seconds later."""
    async with supervised(tmp_path, store) as parts:
        parts.roster.advance(DrainStage.WEB)
        async with spawned(parts.settings, "web0-1") as child:
            await parts.web.attend(restarter(parts, "web0"), child)
            assert child.process.exitcode == 1
    assert counted(parts) == {}, "a process that a stop ends is not replaced"


async def test_a_model_process_that_starts_too_late_in_a_stop_is_killed(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        parts.roster.advance(DrainStage.MODEL)
        with capture_logs() as logs:
            async with spawned(parts.settings, "model0-1") as child:
                await parts.model.attend(restarter(parts, "model0"), child)
                assert child.process.exitcode == -signal.SIGKILL
    assert "model_died" not in {entry["event"] for entry in logs}, "nobody needs to act"


@pytest.mark.parametrize("kind", ChildKind)
async def test_a_process_that_a_stop_has_not_killed_is_an_alarm(
    store: Engine, tmp_path: Path, kind: ChildKind
) -> None:
    async with supervised(tmp_path, store) as parts:
        parts.roster.advance(DrainStage.ANNOUNCED)
        with capture_logs() as logs:
            async with spawned(parts.settings, f"{kind}0-1") as child:
                child.kill()
                attending = parts.web if kind is ChildKind.WEB else parts.model
                await attending.attend(restarter(parts, f"{kind}0"), child)
    assert [entry["exit_code"] for entry in logs if entry["event"] == f"{kind}_died"] == [-9]


async def test_a_web_process_that_is_suspended_is_replaced(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends nothing. With one web process, nobody would be answered any more."""
    monkeypatch.setattr(attendance, "TICK_SECONDS", 0.001)
    async with supervised(tmp_path, store) as parts:
        with capture_logs() as logs:
            async with spawned(parts.settings, "web0-1") as child:
                assert child.process.pid is not None
                os.kill(child.process.pid, signal.SIGSTOP)
                await parts.web.attend(restarter(parts, "web0"), child)
                assert child.process.exitcode == -signal.SIGKILL
    hung = [entry for entry in logs if entry["event"] == "web_hung"]
    assert [(entry["child"], entry["stopped"]) for entry in hung] == [("web0-1", True)]
    assert counted(parts) == {(RESTARTS.name, ("web", "killed")): 1}


async def test_the_files_of_a_dead_web_process_are_swept(store: Engine, tmp_path: Path) -> None:
    """Only its own, and only those that belong to no task."""
    async with supervised(tmp_path, store) as parts:
        await tasks.create_task(store, task("web0-1"))  # its file is spool-web0-1
        spool(parts, "web0-1-a", "web0-1-b.part", "web1-1-c", "spool-web0-1")
        async with spawned(parts.settings, "web0-1") as child:
            child.kill()
            await parts.web.attend(restarter(parts, "web0"), child)
        await parts.cleaner.finish()
        assert spooled(parts) == {"web1-1-c", "spool-web0-1"}
        assert counted(parts) == {(RESTARTS.name, ("web", "killed")): 1}


async def test_the_claims_of_a_dead_model_process_are_requeued(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        await tasks.create_task(store, task("t", images=2))
        async with (
            spawned(parts.settings, "model0-1") as child,
            background(parts.assignment.run_bulk()),
            background(parts.model.attend(restarter(parts, "model0"), child)) as attended,
        ):
            await until(lambda: parts.roster.has(ChildKind.MODEL, child.name))
            parts.router.from_model("model0", child.name, Ready(MODEL, 24))
            await until(lambda: has_pending(store, 0))
            child.kill()
            await attended
        assert await has_pending(store, 2)
        counts = counted(parts)
        assert counts[CLAIMED.name, ()] == counts[REQUEUED.name, ()] == 2
        assert counts[RESTARTS.name, ("model", "killed")] == 1


async def test_an_image_that_is_poison_is_counted_as_failed_and_not_as_requeued(
    store: Engine, tmp_path: Path
) -> None:
    """No model process reports it, and an alert is to see it."""
    async with supervised(tmp_path, store) as parts:
        await tasks.create_task(store, task("t", images=2))
        owner = owner_of(NODE, "model0-1")
        guilty, _ = (await claims.claim(store, 2, owner=owner, now=2.0)).claims
        await parts.assignment.requeue("model0-1", {guilty.image_id: BLAME_LIMIT})
        assert counted(parts) == {
            (IMAGES_FINISHED.name, ("bulk", "poison_image")): 1,
            (REQUEUED.name, ()): 1,
        }


async def has_pending(store: Engine, images: int) -> bool:
    view = await tasks.read_task(store, "t")
    assert view is not None
    return sum(image.status is Status.PENDING for image in view.images) == images


async def test_what_was_claimed_for_a_process_that_died_meanwhile_is_requeued(
    store: Engine, tmp_path: Path
) -> None:
    """The dispatcher still has the process, the roster has it no more."""
    async with supervised(tmp_path, store) as parts:
        await tasks.create_task(store, task("t", images=2))
        parts.dispatcher.model_ready("model0-1", 24)
        counts: dict[tuple[str, tuple[str, ...]], float] = {}

        def requeued() -> bool:
            counts.update(counted(parts))
            return (REQUEUED.name, ()) in counts

        async with background(parts.assignment.run_bulk()):
            await until(requeued)
        assert counts[REQUEUED.name, ()] % 2 == 0, "both, and maybe once more"


async def test_a_claim_that_fails_is_logged_once_and_tried_again(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was remounted read-only: every claim fails until that is repaired."""
    attempts, real = asyncio.Semaphore(0), claims.claim

    async def fail(*_: object, **__: object) -> list[claims.Claim]:
        attempts.release()
        raise StorageFailed("attempt to write a readonly database")

    monkeypatch.setattr(claims, "claim", fail)
    async with supervised(tmp_path, store) as parts:
        await tasks.create_task(store, task("t"))
        parts.dispatcher.model_ready("model0-1", 24)
        with capture_logs() as logged:
            async with background(parts.assignment.run_bulk()) as bulk:
                for _ in range(3):
                    await attempts.acquire()
                    parts.assignment.bulk_hint()
                monkeypatch.setattr(claims, "claim", real)
                parts.assignment.bulk_hint()
                await until(lambda: (CLAIMED.name, ()) in counted(parts))
                assert not bulk.done(), "the loop has ended"
    events = [entry["event"] for entry in logged]
    assert events.count("storage_failing") == 1


async def test_a_requeue_that_is_refused_does_not_pass_unnoticed(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the images would stay claimed for as long as the service lives."""

    async def refuse(*_: object, **__: object) -> None:
        raise StoreRefused("no such column")

    monkeypatch.setattr(claims, "requeue", refuse)
    async with supervised(tmp_path, store) as parts:
        with pytest.raises(StoreRefused):
            await parts.assignment.requeue("model0-1")
        # The same holds for a process that died during a claim: the loop may go on only without it.
        await tasks.create_task(store, task("t"))
        parts.dispatcher.model_ready("model0-1", 24)
        with pytest.raises(StoreRefused):
            await parts.assignment.run_bulk()


# ---------------------------------------------------------------- messages


async def test_an_answer_reaches_the_web_process_that_asked(store: Engine, tmp_path: Path) -> None:
    async with supervised(tmp_path, store) as parts:
        sent = record_sent(parts)
        parts.router.from_web("web0-1", Ask(7, (IMAGE,)))
        parts.dispatcher.model_ready("model0-1", 24)
        (work,) = (work for _, work in parts.dispatcher.assign_interactive())
        parts.router.from_model("model0", "model0-1", Finished(work.ticket, CAPTION))
        assert sent == [(ChildKind.WEB, "web0-1", Answer(7, CAPTION))]


async def test_files_of_finished_and_of_cancelled_tasks_are_removed(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        spool(parts, "web0-finished", "web0-kept", "web0-cancelled", "web0-other")
        parts.dispatcher.model_ready("model0-1", 24)
        for number, (file, keeps) in enumerate([("web0-finished", False), ("web0-kept", True)]):
            image = SpooledImage(file, 0, 9, "sha")
            parts.dispatcher.assign_bulk("model0-1", Work(str(number), Lane.BULK, image, number, 1))
            done = Finished(str(number), CAPTION, task=FinishedTask(keeps))
            parts.router.from_model("model0", "model0-1", done)
        parts.router.from_web("web0-1", Cancelled((99,), "web0-cancelled"))
        parts.router.from_web("web0-1", Cancelled((99,)))
        await parts.cleaner.finish()
        assert spooled(parts) == {"web0-kept", "web0-other"}


async def test_measurements_of_all_processes_are_added_up(store: Engine, tmp_path: Path) -> None:
    series = ("captiond_tagging_failures_total", ())
    async with supervised(tmp_path, store) as parts:
        parts.router.from_web("web0-1", Measured(Measurements({series: 1.0})))
        parts.router.from_model("model0", "model0-1", Measured(Measurements({series: 2.0})))
        assert parts.registry.total.counts == {series: 3.0}


async def test_the_gauges_of_a_process_that_has_exited_do_not_count(
    store: Engine, tmp_path: Path
) -> None:
    def gauge(value: float) -> Measured:
        return Measured(Measurements(gauges={("captiond_connections", ()): value}))

    async with supervised(tmp_path, store) as parts:
        parts.router.from_web("web0-1", gauge(3))
        parts.router.from_web("web1-1", gauge(4))
        parts.router.from_model("model0", "model0-1", gauge(5))
        parts.router.web_exited("web0-1")
        assert [*parts.registry.total.gauges.values()] == [9]
        parts.router.model_exited("model0", "model0-1", Death.KILLED)
        assert [*parts.registry.total.gauges.values()] == [4]


async def test_images_that_no_model_process_finishes_are_counted(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        parts.router.from_web("web0-1", Ask(1, (IMAGE,), known_only=True))
        parts.router.from_web("web0-1", Ask(2, (IMAGE, IMAGE)))
        parts.router.from_web("web0-1", Ask(4, (IMAGE,)))
        parts.router.from_web("web0-1", Drop((2,)))
        parts.router.web_exited("web0-1")
        counts = parts.recorder.take().counts
        assert counts == {
            (IMAGES_FINISHED.name, ("interactive", "model_not_ready")): 1,
            (IMAGES_FINISHED.name, ("interactive", "withdrawn")): 3,
        }


async def test_what_waits_is_answered_when_model_processes_die_before_they_report(
    store: Engine, tmp_path: Path
) -> None:
    """A client that sends an image now gets this answer at once as well."""
    async with supervised(tmp_path, store) as parts:
        sent = record_sent(parts)
        parts.router.from_web("web0-1", Ask(1, (IMAGE,)))
        parts.router.model_exited("model0", "model0-1", Death.KILLED)
        assert [*answers_in(sent)] == [], "the next process may load the model"
        parts.router.model_exited("model0", "model0-2", Death.KILLED)
        (answer,) = answers_in(sent)
        assert isinstance(answer.outcome, Refused)
        assert (answer.ticket, answer.outcome.code) == (1, "model_not_ready")


async def test_a_question_for_the_metrics_is_answered(store: Engine, tmp_path: Path) -> None:
    async with supervised(tmp_path, store) as parts:
        sent = record_sent(parts)
        scrapes = Scrapes(parts.registry, parts.roster, nothing)
        async with background(scrapes.run()):
            parts.registry.set(SPOOL_BYTES, 7)
            scrapes.ask("web0-1", 1)
            scrapes.ask("web1-1", 5)
            await until(lambda: len(sent) == 2)
        metrics = parts.registry.total
        assert sent == [
            (ChildKind.WEB, "web0-1", MetricsAnswer(1, metrics)),
            (ChildKind.WEB, "web1-1", MetricsAnswer(5, metrics)),
        ]


async def test_a_message_that_a_process_never_sends_is_an_error(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        with pytest.raises(TypeError, match="a web process sends no Ready"):
            parts.router.from_web("web0-1", Ready(MODEL, 1))
        with pytest.raises(TypeError, match="a model process sends no Queued"):
            parts.router.from_model("model0", "model0-1", Queued())


async def test_in_a_stop_without_a_model_process_every_request_is_answered(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        sent = record_sent(parts)
        parts.router.from_web("web0-1", Ask(1, (IMAGE,)))
        parts.roster.advance(DrainStage.ANNOUNCED)
        parts.router.refuse_if_stopping()
        parts.router.from_web("web0-1", Ask(2, (IMAGE,)))
        answers = answers_in(sent)
        assert [answer.ticket for answer in answers] == [1, 2]
        assert "draining" in str(answers[1].outcome)


def answers_in(sent: Collection[tuple[ChildKind, str, object]]) -> list[Answer]:
    return [message for _, _, message in sent if isinstance(message, Answer)]


def record_sent(parts: Parts) -> Collection[tuple[ChildKind, str, object]]:
    """What is sent to children from now on; there are none."""
    sent: list[tuple[ChildKind, str, object]] = []

    def send(kind: ChildKind, name: str, message: object) -> None:
        sent.append((kind, name, message))

    parts.roster.send = send  # type: ignore[method-assign]
    return sent
