"""Uploads of tasks into a folder and into object storage: rates, and the memory of a large one.

    python -m tests.benchmarks.uploads [SECONDS]

Everything runs on this machine: the clients, the service, whose model process is held, and a server
of object storage that is written in Python. So the figures compare the two homes of the spool, and
say nothing about a real storage but this: captiond itself is not slower than they are.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from captiond.jobs import SpooledImage
from captiond.recording import Recorder
from captiond.settings.config import DataSettings, Settings
from captiond.spool import open_objects, open_spool
from captiond.worker.fetching import REQUESTS, ImageFetcher
from tests.conftest import png
from tests.s3server import S3Server, s3_server
from tests.service import Service, http_client, running_without_model
from tests.spools import stored

CONSOLE = Console(width=120, highlight=False)
MB = 1_000_000
CLIENTS = 8
KINDS = {"1 image of 100 kB": (1, 100_000), "20 images of 100 kB": (20, 100_000)}
LARGE = (50, 20 * MB)  # a gigabyte in one request
LIMITS = {
    "CAPTIOND_LIMITS__BODY_BYTES": str(2000 * MB),
    "CAPTIOND_LIMITS__FILE_BYTES": str(25 * MB),
    "CAPTIOND_LIMITS__RESERVE_BYTES": "0",
}
FETCHED = (25, 20)  # tasks, and images of 100 kB in each
HOMES = ("folder", "bucket")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder, s3_server() as server:
        for home in HOMES:
            environ = {**LIMITS, **(server.environ() if home == "bucket" else {})}
            with running_without_model(Path(folder) / home, **environ) as service:
                for name, (images, size) in KINDS.items():
                    rate = uploads(service, images, size, seconds)
                    through = rate * images * size / MB
                    CONSOLE.print(f"{home}: {name}: {rate:.0f} uploads/s, {through:.0f} MB/s")
                large(service, home)
        asyncio.run(fetches(server, Path(folder) / "fetch"))


def body(images: int, size: int) -> list[tuple[str, tuple[str, bytes]]]:
    """Return the files of a request. What follows an image is ignored."""
    head = png(1)
    return [("images", ("a.png", head + bytes(size - len(head)))) for _ in range(images)]


def uploads(service: Service, images: int, size: int, seconds: float) -> float:
    """Return how many tasks are accepted in a second from several clients."""
    end = time.monotonic() + seconds

    def send() -> int:
        accepted = 0
        with http_client(base_url=service.url) as client:
            while time.monotonic() < end:
                post(client, images, size)
                accepted += 1
        return accepted

    begun = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        accepted = sum(each.result() for each in [threads.submit(send) for _ in range(CLIENTS)])
    return accepted / (time.monotonic() - begun)


def post(client: httpx.Client, images: int, size: int) -> None:
    client.post("/async-batch-caption", files=body(images, size)).raise_for_status()


def large(service: Service, home: str) -> None:
    """Print how long one gigabyte takes, and by how much the web process grows meanwhile."""
    images, size = LARGE
    (web,) = service.children("web")
    # The most memory is counted anew from here.
    Path(f"/proc/{web.pid}/clear_refs").write_text("5")
    before, begun = memory(web.pid, "VmRSS"), time.monotonic()
    with http_client(base_url=service.url) as client:
        post(client, images, size)
    took, grown = time.monotonic() - begun, memory(web.pid, "VmHWM") - before
    rate = images * size / MB / took
    CONSOLE.print(
        f"{home}: 1 GB in one request: {took:.1f} s, {rate:.0f} MB/s, {grown / MB:.0f} MB of memory"
    )


def memory(pid: int, name: str) -> int:
    """Return an entry of /proc/PID/status in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@contextmanager
def timed(what: str, number: int) -> Iterator[None]:
    begun = time.monotonic()
    yield
    CONSOLE.print(f"{what}: {number / (time.monotonic() - begun):.0f} images/s")


async def fetches(server: S3Server, folder: Path) -> None:
    """Print how fast a model process fetches images, and a decoder reads them from a folder."""
    tasks, each = FETCHED
    settings = Settings(data=DataSettings(dir=folder))
    settings.spool.mkdir(parents=True, exist_ok=True)
    spool = open_spool(settings)
    images = [image for _ in range(tasks) for image in await stored(spool, *contents(each))]
    with timed("folder: read one after the other", len(images)):
        for image in images:
            spool.read(image)
    settings = settings.model_copy(update={"uploads": server.settings()})
    spool, fetcher = open_spool(settings), ImageFetcher(open_objects(settings), Recorder())
    images = [image for _ in range(tasks) for image in await stored(spool, *contents(each))]
    with timed(f"bucket: fetched {REQUESTS} at a time", len(images)):
        await asyncio.gather(*(fetch(fetcher, image) for image in images))


def contents(number: int) -> list[bytes]:
    return [os.urandom(100_000)] * number


async def fetch(fetcher: ImageFetcher, image: SpooledImage) -> None:
    async with fetcher.content(image, lambda: True) as content:
        assert content is not None


if __name__ == "__main__":
    main()
