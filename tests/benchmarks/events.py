"""Measure what clients that follow one task cost: python -m tests.benchmarks.events

A service captions a task of 1,000 images, twice: first nobody follows it, then 1,000 clients follow
its events, all in one process of their own, and some of them read nothing. A good client in another
process asks for the caption of a known image all the time. The table has its median response time
in both runs and the memory of the web process. Each client that reads must get each result once.
"""

import argparse
import asyncio
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Event
from urllib.parse import urlsplit

import httpx

from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import Service, running, wait_for

MIB = 1024 * 1024
FILES = {"CAPTIOND_LIMITS__FILES": "10000", "CAPTIOND_SERVER__CONNECTIONS": "4000"}
AT_ONCE = 50  # connections that are opened at the same time
POSITION = re.compile(rb'^data: \{"position":(\d+)', re.MULTILINE)
PIECE = 64 * 1024  # bytes
NUMBERS = count()


@dataclass
class Measured:
    """What one run brought. `peak` is the largest memory of the web process, in bytes."""

    good: list[float] = field(default_factory=list)
    peak: int = 0
    seconds: float = 0.0

    @property
    def p50_ms(self) -> float:
        return median(self.good) * 1000


def accept(service: Service, images: int) -> str:
    """Send a task of images that no task had before, and return its id."""
    files = [("images", (f"{n}.png", png(next(NUMBERS)))) for n in range(images)]
    response = service.client.post("/async-batch-caption", files=files)
    response.raise_for_status()
    task_id: str = response.json()["task_id"]
    return task_id


# ---------------------------------------------------------------- the process of the good client


def good_client(url: str, image: bytes, begin: Event, stop: Event) -> list[float]:
    """Ask for a known caption from `begin` until `stop`. Return the seconds of each answer."""
    taken: list[float] = []
    begin.wait()
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        while not stop.wait(0.02):
            begun = time.monotonic()
            client.post("/caption", files={"image": ("a.png", image)}).raise_for_status()
            taken.append(time.monotonic() - begun)
    return taken


# ---------------------------------------------------------------- the process of the followers


def followers(url: str, task_id: str, clients: int, stalled: int, begun: Event) -> Counter[str]:
    """Follow a task as so many clients, `stalled` of which read nothing. Return what they got."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(follow_all(url, task_id, clients, stalled, begun))


async def follow_all(
    url: str, task_id: str, clients: int, stalled: int, begun: Event
) -> Counter[str]:
    few = asyncio.Semaphore(AT_ONCE)

    async def one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with few:
            return await connect(url, task_id)

    connected = await asyncio.gather(*(one() for _ in range(clients)))
    begun.set()
    reading = [follow(reader) for reader, _ in connected[stalled:]]
    seen = await asyncio.gather(*reading)
    for _, writer in connected:
        writer.close()
    return Counter(seen)


async def connect(url: str, task_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    path = f"/async-batch-caption/events/{task_id}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return reader, writer


async def follow(reader: asyncio.StreamReader) -> str:
    """Return what came: each image once and then the end, or something else."""
    positions: list[int] = []
    rest, ended = b"", False
    while not ended and (data := await reader.read(PIECE)):
        whole, newline, rest = (rest + data).rpartition(b"\n")
        positions += map(int, POSITION.findall(whole))
        ended = b"event: end\n" in whole + newline
    if not ended:
        return "NO END"
    once = sorted(positions) == [*range(len(positions))]
    return f"{len(positions)} images once each" if once else "WRONG"


# ---------------------------------------------------------------- the runs


def run(
    service: Service, pool: ProcessPoolExecutor, images: int, clients: int, stalled: int
) -> tuple[Measured, Counter[str]]:
    """Caption one task while so many clients follow it."""
    known, measured = png(0), Measured()
    web = service.child("web")
    manager = get_context("spawn").Manager()
    stop, begun = manager.Event(), manager.Event()
    good = pool.submit(good_client, service.url, known, begun, stop)
    task_id = accept(service, images)
    started = time.monotonic()
    following = None
    if clients:
        following = pool.submit(followers, service.url, task_id, clients, stalled, begun)
    else:
        begun.set()

    def finished() -> bool:
        measured.peak = max(measured.peak, web.memory_info().rss)
        if following is not None:
            return following.done()
        return bool(service.task(task_id)["status"] == "COMPLETED")

    wait_for(finished, "the end of the task", seconds=10 * PATIENCE)
    measured.seconds = time.monotonic() - started
    stop.set()
    measured.good = good.result()
    seen = following.result() if following else Counter[str]()
    manager.shutdown()
    return measured, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=50, help="clients that read nothing")
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    pool = ProcessPoolExecutor(2, get_context("spawn"))
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "data", **FILES) as service,
    ):
        service.client.post("/caption", files={"image": ("a.png", png(0))}).raise_for_status()
        before = service.child("web").memory_info().rss
        alone, _ = run(service, pool, given.images, 0, 0)
        sys.stderr.write(f"nobody follows: {alone.p50_ms:.1f} ms, {alone.seconds:.0f} s\n")
        beside, seen = run(service, pool, given.images, given.clients, given.stalled)
        print_table(before, alone, beside, given.clients, seen)
        assert service.stop() == 0
    pool.shutdown()


def print_table(
    before: int, alone: Measured, beside: Measured, clients: int, seen: Counter[str]
) -> None:
    out = sys.stdout
    out.write(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f}\n\n")
    out.write(
        "| run | good client's p50 | requests | web process | seconds |\n|---|---|---|---|---|\n"
    )
    out.write(f"| before | | | {before / MIB:.0f} MB | |\n")
    for name, each in (("nobody follows", alone), (f"{clients} clients follow", beside)):
        out.write(
            f"| {name} | {each.p50_ms:.1f} ms | {len(each.good)} | {each.peak / MIB:.0f} MB "
            f"| {each.seconds:.0f} |\n"
        )
    out.write(f"\nThe clients that read got: {dict(seen)}\n")
    out.write(f"The median is {beside.p50_ms / alone.p50_ms:.2f} times that without them.\n")


if __name__ == "__main__":
    main()
