"""Measure what images in JSON cost a web process: python -m tests.benchmarks.json_input [ROUNDS]

The same images are sent to `/caption` of a real service as multipart, as JSON with base64, with the
slashes escaped as PHP does it, and with line breaks as MIME has them. All are answered from the
cache, so nearly all of the time is that of the web process. Each figure is the least of many
rounds. The memory is the peak of the process during one request of 15 MB, above what it was before.
"""

import base64
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from captiond.bench.load import HEAD, TAIL
from tests.conftest import png
from tests.service import Service, running

SIZES = {"100 KB": 100_000, "1 MB": 1_000_000, "15 MB": 15_000_000}
ROUNDS, REQUESTS = 15, {"100 KB": 20, "1 MB": 10, "15 MB": 2}  # requests in a round
MULTIPART = "multipart/form-data; boundary=edge"


def multipart(image: bytes) -> bytes:
    return HEAD + image + TAIL


def plain(image: bytes) -> bytes:
    return b'{"image": "' + base64.b64encode(image) + b'", "filename": "a.jpg"}'


def escaped(image: bytes) -> bytes:
    return plain(image).replace(b"/", b"\\/")


def in_lines(image: bytes) -> bytes:
    text = base64.encodebytes(image).replace(b"\n", b"\\r\\n")
    return b'{"image": "' + text + b'", "filename": "a.jpg"}'


BODIES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "multipart": (MULTIPART, multipart),
    "JSON": ("application/json", plain),
    "JSON, escaped slashes": ("application/json", escaped),
    "JSON, lines of 76": ("application/json", in_lines),
}


def image_of(size: int) -> bytes:
    """Return a small PNG with bytes behind its end, which nobody reads but all have to carry."""
    small = png(1)
    return small + random.Random(size).randbytes(size - len(small))


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time of all threads of a process so far."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def post(service: Service, kind: str, body: bytes) -> None:
    response = service.client.post("/caption", content=body, headers={"Content-Type": kind})
    assert response.status_code == 200, response.text


def measure(service: Service, size: str, rounds: int) -> dict[str, float]:
    """Return the processor time of the web process for one request, in seconds, for each style."""
    web, image, number = service.child("web"), image_of(SIZES[size]), REQUESTS[size]
    bodies = {name: (kind, make(image)) for name, (kind, make) in BODIES.items()}
    least = dict.fromkeys(bodies, float("inf"))
    for _ in range(rounds):
        for name, (kind, body) in bodies.items():
            before = processor_seconds(web)
            for _ in range(number):
                post(service, kind, body)
            least[name] = min(least[name], (processor_seconds(web) - before) / number)
    return least


def memory(service: Service, name: str) -> float:
    """Return the peak of the web process above its size before a request of 15 MB, in bytes."""
    web, (kind, make) = service.child("web"), BODIES[name]
    body = make(image_of(SIZES["15 MB"]))
    Path(f"/proc/{web.pid}/clear_refs").write_text("5")  # resets the peak
    before = web.memory_info().rss
    post(service, kind, body)
    status = Path(f"/proc/{web.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return peak - before


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    table = Table("style", *(f"{size}, ms" for size in SIZES), "15 MB, × multipart", "memory, MB")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        used = {name: memory(service, name) for name in BODIES}
        times = {size: measure(service, size, rounds) for size in SIZES}
    for name in BODIES:
        ratio = times["15 MB"][name] / times["15 MB"]["multipart"]
        each = [f"{1000 * times[size][name]:.2f}" for size in SIZES]
        table.add_row(name, *each, f"{ratio:.2f}", f"{used[name] / 1e6:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
