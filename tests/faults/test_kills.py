"""SIGKILL, anywhere, at any moment: what was accepted is finished, each image once."""

import random
import re
import signal
import time
from datetime import datetime
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import png
from tests.faults.harness import (
    FRESH,
    Load,
    check,
    gone,
    median,
    new_seed,
    progress,
    rounds,
    seconds_until,
    wait_for_the_end,
)
from tests.service import Service, running, wait_for


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def test_model_processes_are_killed(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(3, 200)
    seen: list[float] = []
    back: list[float] = []
    with running(data, **FRESH) as service:
        with load.on(service):
            for number in range(times):
                time.sleep(rng.uniform(0, 1.5))
                kill_model(service, seen, back)
                progress(number + 1, times, "model")
        wait_for_the_end(service)
        assert service.stop() == 0
    assert set(load.ledger.answers) <= {"task 202", 200, 503}
    check(
        data,
        load.ledger,
        "SIGKILL of a model process",
        rounds=times,
        seen_ms=round(median(seen) * 1000, 1),
        seen_ms_most=round(max(seen) * 1000, 1),
        back_s=round(median(back), 2),
        back_s_most=round(max(back), 2),
    )


def kill_model(service: Service, seen: list[float], back: list[float]) -> None:
    """Kill it; note after how long that was seen, and when images could be captioned again."""
    (model,) = service.children("model")
    deaths, readies = len(service.logged("model_died")), len(service.logged("model_ready"))
    killed = time.time()
    model.kill()
    wait_for(lambda: len(service.logged("model_died")) > deaths, "the death to be seen")
    back.append(
        seconds_until(lambda: len(service.logged("model_ready")) > readies, "another model")
    )
    died = service.logged("model_died")[-1]["timestamp"]
    seen.append(datetime.fromisoformat(died).timestamp() - killed)


def test_web_processes_are_killed_during_uploads(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(6, 200)
    back: list[float] = []
    with running(data, "--workers", "2", **FRESH) as service:
        with load.on(service, bulk=4):
            for number in range(times):
                time.sleep(rng.uniform(0, 0.5))
                rng.choice(service.children("web")).kill()
                httpx.get(f"{service.url}/livez").raise_for_status()  # the other one accepts
                back.append(seconds_until(lambda: len(service.children("web")) == 2, "two webs"))
                progress(number + 1, times, "web")
        wait_for_the_end(service)
        assert service.stop() == 0
    check(
        data,
        load.ledger,
        "SIGKILL of a web process",
        rounds=times,
        back_s=round(median(back), 2),
        back_s_most=round(max(back), 2),
    )


def test_what_was_in_hand_when_the_supervisor_was_killed_is_done_by_the_next(data: Path) -> None:
    with running(data, **FRESH) as service:
        for model in service.children("model"):
            model.suspend()
        files = [("images", (f"{number}.png", png(number))) for number in range(3)]
        task_id = service.client.post("/async-batch-caption", files=files).json()["task_id"]
        wait_for(lambda: service.task(task_id)["status"] == "PROCESSING", "the claim")
        service.kill()
    with running(data, **FRESH) as service:
        assert service.finished(task_id)["status"] == "COMPLETED"
        assert service.stop() == 0


def test_the_supervisor_is_killed(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(3, 200)
    left_over = 0
    for number in range(times):
        service = Service(data, **FRESH)
        try:
            with load.on(service):
                time.sleep(rng.uniform(0, 8))
                tree = service.tree()
                children = [*service.children("web"), *service.children("model")]
                deaf = [child for child in children if bound_to_parent(child)]
                if deaf:
                    rng.choice(deaf).suspend()  # not even that one outlives it
                service.kill()
        finally:
            service.close()
        left_over += not ends(tree)
        progress(number + 1, times, "supervisor")
    finish(data, load, "SIGKILL of the supervisor", rounds=times, left_over=left_over)
    assert left_over == 0


def bound_to_parent(child: psutil.Process) -> bool:
    """Whether it has asked the kernel to end with its parent: it ignores SIGTERM right after.

    One that is stopped before it could ask stays stopped, and ends as soon as it is continued.
    """
    status = Path(f"/proc/{child.pid}/status").read_text()
    (ignored,) = re.findall(r"^SigIgn:\s*(\w+)$", status, flags=re.MULTILINE)
    return bool(int(ignored, 16) & 1 << (signal.SIGTERM - 1))


def ends(tree: list[psutil.Process]) -> bool:
    wait_for(lambda: gone(tree), "every process of the tree to be gone")
    return True


def test_a_restart_storm_converges(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(4, 50)
    stopped: list[int] = []
    for number in range(times):
        service = Service(data, **FRESH)
        try:
            with load.on(service):
                time.sleep(rng.uniform(0, 6))
                tree = service.tree()
                if rng.random() < 0.5:
                    stopped.append(service.stop())
                else:
                    service.kill()
        finally:
            service.close()
        assert ends(tree)
        progress(number + 1, times, "storm")
    assert set(stopped) <= {0}
    finish(data, load, "mixed SIGTERM and SIGKILL", rounds=times)


def finish(data: Path, load: Load, fault: str, **figures: object) -> None:
    """The next start finishes everything."""
    with running(data, **FRESH) as service:
        wait_for_the_end(service)
        assert service.stop() == 0
    check(data, load.ledger, fault, **figures)


def test_ctrl_c_leaves_no_process_and_keeps_what_waits(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(1, 100)
    for number in range(times):
        with running(data, **FRESH) as service, load.on(service):
            time.sleep(rng.uniform(0, 1))
            tree = service.tree()
            service.process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
            assert service.process.wait(60) == 0
            assert ends(tree)
        progress(number + 1, times, "stop")
    finish(data, load, "SIGTERM and Ctrl-C", rounds=times)


def test_decoders_are_killed(data: Path, rng: random.Random) -> None:
    """Somebody else's doing: an image that is in hand at two kills is not poison."""
    load, times = Load(rng), rounds(3, 50)
    with running(data, **FRESH) as service:
        with load.on(service):
            for number in range(times):
                time.sleep(rng.uniform(0.2, 0.6))
                (model,) = service.children("model")
                for decoder in model.children():
                    decoder.kill()
                progress(number + 1, times, "decoder")
        wait_for_the_end(service)
        assert service.stop() == 0
    check(data, load.ledger, "SIGKILL of a decoder", rounds=times)
