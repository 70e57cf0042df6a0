"""Mixed work for a real service while parts of it are killed, and the check at the end.

A run is determined by its seed, which a failed test prints; set `FAULT_SEED` to repeat it. With
`FAULT_SOAK` set, each fault is injected its full number of times, and its figures are recorded.
`FAULT_ROUNDS` gives another number.
"""

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import png
from tests.service import Service, http_client, query, wait_for

SOAK = "FAULT_SOAK" in os.environ
FIGURES = Path("build/soak/figures.jsonl")
# Images of the newest tasks that wait at most, so that a run ends.
MOST_OPEN = 200 if SOAK else 60
# What each client waits between two requests, in seconds. Faults meet as many kinds of requests
# when the clients leave some processor time to other tests.
PAUSE = 0.0 if SOAK else 0.03


def rounds(short: int, full: int) -> int:
    """Return how often a fault is injected: `short` with the tests, `full` in a soak."""
    return int(os.environ.get("FAULT_ROUNDS", full)) if SOAK else short


def new_seed() -> int:
    """Return the seed of `FAULT_SEED`, or a random one, and print it."""
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**9))
    sys.stdout.write(f"FAULT_SEED={seed}\n")  # pytest shows it if the test fails
    return seed


def progress(done: int, of: int, what: str) -> None:
    """Print how far a soak is, which takes hours."""
    if SOAK and sys.__stderr__ is not None:
        sys.__stderr__.write(f"\r{what}: {done} of {of} ")
        sys.__stderr__.flush()


def record(fault: str, **figures: Any) -> None:
    """Append the figures of a fault to the file that the table is made of."""
    if SOAK:
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        with FIGURES.open("a") as file:
            file.write(json.dumps({"fault": fault, **figures}) + "\n")


@dataclass
class Ledger:
    """What clients sent, and how the service answered."""

    sent: set[str] = field(default_factory=set)
    accepted: dict[str, int] = field(default_factory=dict)
    answers: Counter[int | str] = field(default_factory=Counter)


class Load:
    """Clients that send tasks and interactive images until they are stopped."""

    def __init__(self, rng: random.Random, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self._rng = rng
        self._numbers = count(rng.randrange(10**6))
        self._stop = threading.Event()

    @contextmanager
    def on(self, service: Service, *, bulk: int = 2, interactive: int = 2) -> Iterator[None]:
        """Run so many clients of each kind while the block runs."""
        self._stop = threading.Event()
        clients = [threading.Thread(target=self._bulk, args=(service,)) for _ in range(bulk)]
        clients += [
            threading.Thread(target=self._interactive, args=(service,)) for _ in range(interactive)
        ]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def _bulk(self, service: Service) -> None:
        rng = random.Random(self._rng.random())
        with http_client(base_url=service.url) as client:
            while not self._stop.is_set():
                with suppress(httpx.TransportError):
                    self._send_task(client, rng.randint(1, 12))
                    self._hold_back(client)
                self._stop.wait(PAUSE)

    def _send_task(self, client: httpx.Client, images: int) -> None:
        name = f"n{next(self._numbers)}"
        self.ledger.sent.add(name)
        files = [
            ("images", (f"{name}-{place}.png", png(next(self._numbers)))) for place in range(images)
        ]
        response = client.post("/async-batch-caption", files=files)
        self.ledger.answers[f"task {response.status_code}"] += 1
        if response.status_code == 202:
            self.ledger.accepted[response.json()["task_id"]] = images

    def _hold_back(self, client: httpx.Client) -> None:
        """Wait while many images wait already; another test has a long backlog."""
        newest = next(reversed(self.ledger.accepted), None)
        if newest is None or sum(list(self.ledger.accepted.values())[-40:]) < MOST_OPEN:
            return
        while not self._stop.is_set():
            status = client.get(f"/async-batch-caption/status/{newest}").json()["status"]
            if status != "PENDING":
                return
            self._stop.wait(0.05)

    def _interactive(self, service: Service) -> None:
        with http_client(base_url=service.url) as client:
            while not self._stop.is_set():
                image = ("one.png", png(next(self._numbers)))
                try:
                    status = client.post("/caption", files={"image": image}).status_code
                except httpx.TransportError:
                    self.ledger.answers["connection broken"] += 1
                    self._stop.wait(0.05)
                    continue
                self.ledger.answers[status] += 1
                self._stop.wait(0.05 if status == 503 else PAUSE)


@dataclass(frozen=True)
class Verdict:
    """How many images there are, and how many were lost, captioned twice, or failed."""

    images: int
    lost: int
    doubled: int
    failed: int


def wait_for_the_end(service: Service) -> None:
    """Wait until all images are finished; the deadline is for the next one of them."""
    open_images = "SELECT count(*) FROM images WHERE status IN ('PENDING', 'PROCESSING')"
    left = query(service.data, open_images)[0][0]
    while left:
        before = left

        def fewer(before: int = before) -> bool:
            return bool(query(service.data, open_images)[0][0] < before)

        wait_for(fewer, f"any of {before} open images")
        left = query(service.data, open_images)[0][0]


def judge(data: Path, ledger: Ledger) -> Verdict:
    """Check that every accepted image is finished exactly once, and that nothing is left over.

    A request whose answer was lost with its connection may have been accepted. The same rules hold
    for it, and it must have been accepted at most once.
    """
    assert query(data, "PRAGMA integrity_check") == [("ok",)]
    rows = dict(query(data, "SELECT task_id, count(*) FROM images GROUP BY task_id"))
    lost = sum(images for task, images in ledger.accepted.items() if rows.get(task) != images)
    names = [name for (name,) in query(data, "SELECT filename FROM images")]
    twice = [name for name, times in Counter(names).items() if times > 1]
    assert {name.rsplit("-", 1)[0] for name in names} <= ledger.sent, "an image nobody sent"
    ended = "('COMPLETED', 'FAILED', 'CANCELLED')"
    lost += len(query(data, f"SELECT id FROM images WHERE status NOT IN {ended}"))
    lost += len(query(data, "SELECT id FROM images WHERE result IS NULL"))
    assert query(data, f"SELECT id FROM tasks WHERE status NOT IN {ended}") == []
    assert list((data / "spool").iterdir()) == [], "files left in the spool"
    failed = query(data, "SELECT count(*) FROM images WHERE status = 'FAILED'")[0][0]
    return Verdict(len(names), lost, len(twice), failed)


def check(data: Path, ledger: Ledger, fault: str, **figures: Any) -> Verdict:
    """Judge and record; fail if an image was lost, was captioned twice, or failed."""
    verdict = judge(data, ledger)
    record(fault, **figures, **vars(verdict), answers=dict(ledger.answers))
    assert (verdict.lost, verdict.doubled, verdict.failed) == (0, 0, 0), verdict
    return verdict


def median(values: list[float]) -> float:
    """Return the upper median of the values."""
    return sorted(values)[len(values) // 2]


def seconds_until(look: Callable[[], object], what: str) -> float:
    """Wait for a condition, and return how long that took, in seconds."""
    begun = time.monotonic()
    wait_for(look, what)
    return time.monotonic() - begun
