"""SIGKILL and SIGSTOP at any moment: what was accepted is finished, each image once."""

import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from captiond.cli.serve_command import stop_signals
from tests.conftest import png
from tests.faults.harness import (
    SOAK,
    Ledger,
    Load,
    check,
    median,
    new_seed,
    progress,
    rounds,
    seconds_until,
    wait_for_the_end,
)
from tests.patience import PATIENCE
from tests.service import (
    FRESH,
    WITH_STANDBY,
    Service,
    bound_to_parent,
    http_client,
    query,
    running,
    wait_for,
    wait_until_gone,
)

IGNORE_CHILDREN = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
SILENCE_SECONDS = 8
IGNORING_CHILDREN = (sys.executable, "-c", IGNORE_CHILDREN)


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def test_model_processes_are_killed(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(2, 200)
    seen: list[float] = []
    back: list[float] = []
    with running(data, **FRESH, **WITH_STANDBY) as service:
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
    """Kill the model process; note how long detection took, and how long until another is ready."""
    model = service.child("model")
    deaths, readies = len(service.logged("model_died")), len(service.logged("model_ready"))
    killed = time.time()
    model.kill()
    wait_for(lambda: len(service.logged("model_died")) > deaths, "the death to be logged")
    back.append(
        seconds_until(lambda: len(service.logged("model_ready")) > readies, "another model")
    )
    died = service.logged("model_died")[-1]["timestamp"]
    seen.append(datetime.fromisoformat(died).timestamp() - killed)


@dataclass(frozen=True)
class Loaded:
    """A running service with two web processes, and its clients, who keep their accounts."""

    service: Service
    load: Load

    def wait_for_the_end(self) -> None:
        """Wait until all images are finished, and their files are removed."""
        wait_for_the_end(self.service)
        spool = self.service.data / "spool"
        wait_for(lambda: not list(spool.iterdir()), "an empty spool")


# In a soak, the figures of each test are those of its own service.
@pytest.fixture(scope="function" if SOAK else "module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """A service that kills of single processes leave as it was.

    The program that has started the service ignores SIGCHLD, which the service inherits.
    """
    data = tmp_path_factory.mktemp("loaded") / "data"
    flags = ("--workers", "2", "--set", f"model.silence_seconds={SILENCE_SECONDS}")
    with running(data, *flags, prefix=IGNORING_CHILDREN, **FRESH) as service:
        yield Loaded(service, Load(random.Random(new_seed())))
        assert service.stop() == 0


def test_web_processes_are_killed_during_uploads(loaded: Loaded, rng: random.Random) -> None:
    service, load, times = loaded.service, loaded.load, rounds(3, 200)
    back: list[float] = []
    with load.on(service, bulk=4):
        for number in range(times):
            time.sleep(rng.uniform(0, 0.5))
            rng.choice(service.children("web")).kill()
            # On a new connection, which another process accepts.
            with http_client(base_url=service.url) as client:
                client.get("/livez").raise_for_status()
            back.append(seconds_until(lambda: len(service.children("web")) == 2, "two webs"))
            progress(number + 1, times, "web")
    loaded.wait_for_the_end()
    check(
        service.data,
        load.ledger,
        "SIGKILL of a web process",
        rounds=times,
        back_s=round(median(back), 2),
        back_s_most=round(max(back), 2),
    )


class Interrupted:
    """A data folder in which services are ended in any way, and what their clients sent."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.load = Load(random.Random(new_seed()))
        self.fault = ""
        self.figures: dict[str, object] = {}

    def note(self, fault: str, **figures: object) -> None:
        """Keep the figures of a test for the table of a soak."""
        self.fault, self.figures = fault, figures

    def finish(self) -> None:
        """Start once more, wait until everything is finished, and check."""
        with running(self.data, **FRESH) as service:
            wait_for_the_end(service)
            assert service.stop() == 0
        check(self.data, self.load.ledger, self.fault, **self.figures)


# In a soak, the figures of each test are those of its own services.
@pytest.fixture(scope="function" if SOAK else "module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    """A data folder whose tasks are all finished at the end."""
    made = Interrupted(tmp_path_factory.mktemp("interrupted") / "data")
    yield made
    made.finish()


def kill_with_claims(data: Path, ledger: Ledger) -> int:
    """Kill a supervisor that has claimed the images of a task. Return how many they are.

    Its model process is stopped (SIGSTOP), and must not outlive it all the same.
    """
    ledger.sent.add("claimed")
    with running(data, **FRESH) as service, service.suspended_model():
        files = [("images", (f"claimed-{number}.png", png(number))) for number in range(3)]
        task_id = service.client.post("/async-batch-caption", files=files).json()["task_id"]
        ledger.accepted[task_id] = len(files)
        wait_for(lambda: service.task(task_id)["status"] == "PROCESSING", "the claim")
        claimed = "SELECT count(*) FROM images WHERE status = 'PROCESSING'"
        tree, ((images,),) = service.tree(), query(data, claimed)
        service.kill()
        wait_until_gone(tree)
    return int(images)


def test_the_supervisor_is_killed(interrupted: Interrupted, rng: random.Random) -> None:
    data, load, times = interrupted.data, interrupted.load, rounds(1, 200)
    claimed = kill_with_claims(data, load.ledger)
    for number in range(times):
        service = Service(data, **FRESH)
        try:
            if number == 0:  # their lease would end later
                (recovered,) = service.wait_for_entries("recovered", 1)
                assert recovered["requeued"] >= claimed > 0
            with load.on(service):
                time.sleep(rng.uniform(0, 5))
                tree = service.tree()
                children = [*service.children("web"), *service.children("model")]
                deaf = [child for child in children if bound_to_parent(child)]
                if deaf:
                    rng.choice(deaf).suspend()  # even a stopped child must not outlive it
                service.kill()
        finally:
            service.close()
        wait_until_gone(tree)
        progress(number + 1, times, "supervisor")
    interrupted.note("SIGKILL of the supervisor", rounds=times, left_over=0)


def test_a_restart_storm_converges(interrupted: Interrupted, rng: random.Random) -> None:
    load, times = interrupted.load, rounds(1, 50)
    stopped: list[int] = []
    for number in range(times):
        service = Service(interrupted.data, **FRESH)
        try:
            with load.on(service):
                time.sleep(rng.uniform(0, 4))
                tree = service.tree()
                if rng.random() < 0.5:
                    stopped.append(service.stop())
                else:
                    service.kill()
        finally:
            service.close()
        wait_until_gone(tree)
        progress(number + 1, times, "storm")
    assert set(stopped) <= {0}
    interrupted.note("mixed SIGTERM and SIGKILL", rounds=times)


def test_ctrl_c_leaves_no_process_and_keeps_waiting_tasks(
    interrupted: Interrupted, rng: random.Random
) -> None:
    load, times = interrupted.load, rounds(1, 100)
    for number in range(times):
        with running(interrupted.data, **FRESH) as service, load.on(service):
            time.sleep(rng.uniform(0, 1))
            tree = service.tree()
            # Under nohup, the tests and the service ignore the end of the terminal.
            service.process.send_signal(rng.choice(stop_signals()))
            assert service.process.wait(PATIENCE) == 0
            wait_until_gone(tree)
        progress(number + 1, times, "stop")
    interrupted.note("SIGTERM and Ctrl-C", rounds=times)


def test_decoders_are_killed(loaded: Loaded, rng: random.Random) -> None:
    """SIGKILL comes from outside: an image that loses two decoders to it is not poison."""
    service, load, times = loaded.service, loaded.load, rounds(2, 50)
    with load.on(service):
        for number in range(times):
            time.sleep(rng.uniform(0.2, 0.6))
            model = service.child("model")
            for decoder in model.children():
                decoder.kill()
            progress(number + 1, times, "decoder")
    loaded.wait_for_the_end()
    check(service.data, load.ledger, "SIGKILL of a decoder", rounds=times)


def test_model_processes_are_stopped(loaded: Loaded, rng: random.Random) -> None:
    """A process that is stopped (SIGSTOP) exists but is silent; a deadline replaces it."""
    service, load, times = loaded.service, loaded.load, rounds(1, 50)
    readies = len(service.logged("model_ready"))
    with load.on(service):
        for number in range(times):
            time.sleep(rng.uniform(0, 1))
            service.child("model").send_signal(signal.SIGSTOP)
            service.wait_for_entries("model_hung", number + 1)
            service.wait_for_entries("model_ready", readies + number + 1)
            progress(number + 1, times, "stopped model")
    loaded.wait_for_the_end()
    assert all(entry["stopped"] for entry in service.logged("model_hung"))
    check(service.data, load.ledger, "SIGSTOP of a model process", rounds=times)
