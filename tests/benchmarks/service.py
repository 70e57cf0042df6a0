"""Measure the service around the model. The model is captiond/scenes, which takes little time.

python -m tests.benchmarks.service [FIGURE...]      measures these figures, or all; prints a table

overhead   the time of one image without decoding and the model, from the debug log
uploads    bytes a second that are accepted in requests of 100 small images, compared with a write
           and fsync of the same bytes on the same disk; with one and with two web processes
memory     the size of a web process that receives 200 uploads of 15 MB at once
backlog    what an interactive image waits for when 1,000 images of tasks are queued
queue      images a second while 10 to 10,000 images are queued
processes  images a second with several web and model processes and 16 clients
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from captiond.bench.load import HEAD, HEADERS, TAIL
from captiond.spool import remove
from tests.conftest import png
from tests.service import WITH_STANDBY, Service, query, running, wait_for

MIB = 1024 * 1024
FRESH = {
    "CAPTIOND_CACHE__ENABLED": "false",
    # The defaults, which the tests change:
    "CAPTIOND_MODEL__BATCH_SIZE": "0",
    "CAPTIOND_MODEL__THREADS": "0",
    **WITH_STANDBY,
}
Figures = dict[str, str]


@contextmanager
def fresh_service(*flags: str) -> Iterator[Service]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "data", *flags, **FRESH) as service,
    ):
        yield service


def overhead(images: int = 300) -> Figures:
    with fresh_service() as service:
        for number in range(images):
            service.client.post("/caption", files={"image": ("a.png", png(number))})
        parts = service.logged("processing_time")[images // 10 :]
    rest = [part["total"] - part["decode"] - part["model"] for part in parts]
    figures = {
        name: f"{statistics.median(part[name] for part in parts):.2f} ms"
        for name in ("total", "upload", "queue", "decode", "model", "tags", "other")
    }
    return {"all but decode and model": f"{statistics.median(rest):.2f} ms", **figures}


def uploads(
    rounds: int = 7, requests: int = 48, files: int = 100, size: int = 30_000, clients: int = 8
) -> Figures:
    """Measure accepted bytes a second and the limit of the disk, while the model is stopped."""
    figures = {}
    for webs in (1, 2):
        floor, web = upload_times(webs, rounds, requests, files, size, clients)
        megabytes = requests * files * size / 1e6
        rate, most = (megabytes / statistics.median(times) for times in (web, floor))
        figures[f"one write and fsync for each request ({webs})"] = f"{most:.0f} MB/s"
        figures[f"{clients} clients, {webs} web processes"] = f"{rate:.0f} MB/s, {rate / most:.0%}"
    return figures


def upload_times(
    webs: int, rounds: int, requests: int, files: int, size: int, clients: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of each round but the first: of writing, and of posting the same bytes.

    The files of a round are removed before the next round, so that both reuse pages of memory. A
    virtual machine needs more time to get a new page from its host than to fill it.
    """
    floor, web = [], []
    flags = ("--workers", str(webs), "--set", "model.silence_seconds=3600")
    with fresh_service(*flags) as service, ThreadPoolExecutor(clients) as pool:
        service.child("model").suspend()
        for _ in range(1 + rounds):
            bodies = [encode(os.urandom(size) for _ in range(files)) for _ in range(requests)]
            contents = [body.content for body in bodies]
            paths = [service.data / f"floor{number}" for number in range(requests)]
            floor.append(seconds_of(partial(write_each, paths, contents)))
            remove(paths)
            tasks: list[str] = []
            web.append(seconds_of(partial(post_all, pool, service, bodies, tasks)))
            for task in tasks:
                service.client.delete(f"/async-batch-caption/{task}").raise_for_status()
    return floor[1:], web[1:]


def encode(images: Iterable[bytes]) -> httpx.Request:
    """Return a request whose body is ready, so that the client's work is not measured."""
    head = b"\x89PNG\r\n\x1a\n"
    files = [("images", ("a.png", head + image)) for image in images]
    request = httpx.Request("POST", "http://service/", files=files)
    request.read()
    return request


def post_all(
    pool: Executor, service: Service, requests: list[httpx.Request], tasks: list[str]
) -> None:
    tasks += pool.map(partial(post, service), requests)


def post(service: Service, request: httpx.Request) -> str:
    """Send a request, and return the id of its task."""
    headers = {"Content-Type": request.headers["Content-Type"]}
    with connected(service) as connection:
        connection.request("POST", "/async-batch-caption", request.content, headers)
        response = connection.getresponse()
        assert response.status == 202
        task: str = json.loads(response.read())["task_id"]
        return task


@contextmanager
def connected(service: Service) -> Iterator[HTTPConnection]:
    """Open one connection, with http.client, which takes less processor time than httpx."""
    url = urlsplit(service.url)
    with closing(HTTPConnection(url.hostname or "", url.port, timeout=600)) as connection:
        yield connection


def write_each(paths: list[Path], contents: list[bytes]) -> None:
    for path, content in zip(paths, contents, strict=True):
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def send(service: Service, images: list[bytes]) -> None:
    files = [("images", ("a.png", image)) for image in images]
    assert service.client.post("/async-batch-caption", files=files).status_code == 202


def seconds_of(action: Callable[[], None]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def memory(count: int = 200) -> Figures:
    content = png(1) + b"\0" * (15 * MIB)
    with fresh_service() as service:
        web = service.child("web")
        before = web.memory_info().rss
        with peak_of(web) as peak, ThreadPoolExecutor(count) as pool:

            def upload(_: int) -> int:
                url = f"{service.url}/async-batch-caption"
                return httpx.post(url, files={"images": ("a", content)}, timeout=600).status_code

            assert set(pool.map(upload, range(count))) == {202}
        time.sleep(5)
        after = web.memory_info().rss
    return {
        "before": f"{before / 1e6:.0f} MB",
        "most": f"{peak[0] / 1e6:.0f} MB",
        "after": f"{after / 1e6:.0f} MB",
    }


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Yield a list with the largest resident size of a process in the block, in bytes."""
    peak, stop = [0], threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def backlog(images: int = 1000, asked: int = 60) -> Figures:
    with fresh_service() as service:
        for first in range(0, images, 100):
            send(service, [png(n) for n in range(first, first + 100)])
        spans = []
        for number in range(asked):
            begun = time.time()
            service.client.post("/caption", files={"image": ("a.png", png(images + number))})
            spans.append((begun, time.time()))
        batches = [
            datetime.fromisoformat(entry["timestamp"]).timestamp()
            for entry in service.logged("batch")
            if entry["lane"] == "bulk"
        ]
    passed = [sum(begun < second < ended for second in batches) for begun, ended in spans]
    return {
        "bulk batches before it, at most": str(max(passed)),
        "median wait": f"{statistics.median(end - begun for begun, end in spans) * 1000:.0f} ms",
    }


def queue(lengths: tuple[int, ...] = (10, 100, 1000, 10_000)) -> Figures:
    return {f"{images:,} images": f"{rate_of_queue(images):.0f} a second" for images in lengths}


def rate_of_queue(images: int) -> float:
    """Return how many images a second the model process captions while so many are queued."""
    with fresh_service("--set", "model.silence_seconds=3600") as service:
        model = service.child("model")
        model.suspend()
        for first in range(0, images, 100):
            send(service, [png(n) for n in range(first, min(images, first + 100))])
        model.resume()
        open_ = "SELECT count(*) FROM tasks WHERE finished_at IS NULL"
        begun = time.perf_counter()
        wait_for(lambda: query(service.data, open_) == [(0,)], "the queue's end", seconds=3600)
        return images / (time.perf_counter() - begun)


def processes(counts: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (1, 2), (2, 2))) -> Figures:
    return {
        f"web processes {webs}, model processes {models}": f"{rate_of(webs, models):.0f} a second"
        for webs, models in counts
    }


def rate_of(webs: int, models: int, clients: int = 16, requests: int = 100) -> float:
    """Return images a second, one in each request. The models share the cores of the machine."""
    flags = ("--workers", str(webs), "--device", ",".join(["cpu"] * models))
    with (
        fresh_service(*flags) as service,
        ThreadPoolExecutor(clients) as pool,
    ):
        service.wait_for_entries("model_ready", models)
        times = []
        for number in range(4):
            work = [
                [png((number * clients + client) * requests + n) for n in range(requests)]
                for client in range(clients)
            ]
            times.append(seconds_of(partial(ask_everything, service, pool, work)))
    return clients * requests / statistics.median(times[1:])


def ask_everything(service: Service, pool: Executor, work: list[list[bytes]]) -> None:
    list(pool.map(partial(ask_all, service), work))


def ask_all(service: Service, images: list[bytes]) -> None:
    """Send images one after another over one connection."""
    with connected(service) as connection:
        for image in images:
            connection.request("POST", "/caption", HEAD + image + TAIL, HEADERS)
            response = connection.getresponse()
            response.read()
            assert response.status == 200


FIGURES = (overhead, uploads, memory, backlog, queue, processes)


def main(wanted: list[str]) -> None:
    console, table = Console(), Table("figure", "", "measured")
    for figure in (figure for figure in FIGURES if figure.__name__ in wanted or not wanted):
        with console.status(figure.__name__):
            measured = figure()
        for name, value in measured.items():
            table.add_row(figure.__name__, name, value)
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
