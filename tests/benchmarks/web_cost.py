"""Measure the processor time of the web process for a request, and divide it among its parts.

python -m tests.benchmarks.web_cost      prints a table

The time is that of the kernel's scheduler, for the main thread and for the threads that write
files. The parts of the main thread are from samples (`sampling/sitecustomize.py`), which take about
2 % of the time themselves. What the start of the process costs is subtracted.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from tests.service import Service, running, wait_for

SAMPLING = Path(__file__).parent / "sampling"
COLUMNS = (
    "h11", "Hypercorn", "sockets", "select", "asyncio", "multipart", "SHA-256", "spool", "Starlette", "messages",
    "database", "log", "rest",
)  # fmt: skip
Post = Callable[[Service, list[bytes]], object]


@dataclass(frozen=True, slots=True)
class Case:
    """Requests of one kind: `images` images of side x side random pixels each."""

    name: str
    images: int
    side: int  # a PNG of random pixels has three bytes for each pixel
    requests: int
    post: Post


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of processor time for each request."""

    main: float
    others: float
    parts: dict[str, float]  # of the main thread


def post_one(service: Service, images: list[bytes]) -> object:
    answered(service.client.post("/caption", files={"image": ("a.png", images[0])}))
    return None


def post_many(service: Service, images: list[bytes]) -> object:
    return answered(service.client.post("/batch-caption", files=files_of(images)))


def post_task(service: Service, images: list[bytes]) -> object:
    return answered(service.client.post("/async-batch-caption", files=files_of(images)))


def files_of(images: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{number}.png", image)) for number, image in enumerate(images)]


def answered(response: httpx.Response) -> httpx.Response:
    return response.raise_for_status()


CASES = (
    Case("1 image of 100 KB", 1, 183, 150, post_one),
    Case("1 image of 3 MB", 1, 1000, 40, post_one),
    Case("100 images of 30 KB, interactive", 100, 100, 12, post_many),
    Case("100 images of 30 KB, a task", 100, 100, 12, post_task),
)


def png(side: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def cost(case: Case) -> Cost:
    """Run a service of its own, and return what a request costs its web process."""
    images = [png(case.side, number) for number in range(case.images)]
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        environ = {
            "CAPTIOND_CACHE__ENABLED": "false",
            "PYTHONPATH": f"{SAMPLING}:{Path(__file__).parents[2]}",
            "SAMPLES": str(samples),
        }
        idle = counted(Case("none", 0, 0, 0, post_one), images, folder, environ, samples)
        busy = counted(case, images, folder, environ, samples)
    parts = busy.samples - idle.samples
    every = sum(parts.values()) or 1
    main = (busy.main - idle.main) / case.requests
    return Cost(
        main=main,
        others=(busy.others - idle.others) / case.requests,
        parts={name: main * parts[name] / every for name in COLUMNS},
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """Milliseconds and samples of a whole web process, from its start to its end."""

    main: float
    others: float
    samples: Counter[str]


def counted(
    case: Case, images: list[bytes], folder: str, environ: dict[str, str], samples: Path
) -> Counted:
    samples.unlink(missing_ok=True)
    with running(Path(folder) / f"data{time.monotonic_ns()}", **environ) as service:
        web = service.child("web").pid
        for _ in range(case.requests):
            case.post(service, images)
        main, others = milliseconds(web)
        service.stop()
        found = wait_for(lambda: samples.exists() and samples.read_text(), "the samples")
    return Counted(main, others, Counter(json.loads(str(found))))


def milliseconds(pid: int) -> tuple[float, float]:
    """Return the processor time of the main thread and of all other threads that still run."""
    times = {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e6
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    return times[pid], sum(times.values()) - times[pid]


def main() -> None:
    table = Table("ms of the web process for a request", "all", *COLUMNS, "other threads")
    for case in CASES:
        found = cost(case)
        cells = (f"{found.parts[name]:.2f}" for name in COLUMNS)
        table.add_row(case.name, f"{found.main + found.others:.2f}", *cells, f"{found.others:.2f}")
    Console(width=200, file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
