"""Measure what keys and limits cost: python -m tests.benchmarks.keys

Two services with two web processes each get the same known images in turn, one of them with a key
and with all limits on. Known images take the least time, so that the cost of keys shows most. The
table has the images a second, and the processor time of the web processes and the supervisor for an
image, which other load on the machine changes less. Also printed is how soon a revoked key is
refused.
"""

import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from captiond.bench.load import HEAD, HEADERS, TAIL
from captiond.keys import new_secret
from tests.conftest import png
from tests.service import Service, running

ROUNDS = 40
CLIENTS = 4
REQUESTS = 50  # of each client in a round
SECRET = new_secret()
WITHOUT: dict[str, str] = {}
WITH = {
    "CAPTIOND_KEYS__NAMED": json.dumps({"bench": SECRET}),
    "CAPTIOND_CLIENTS__REQUESTS": "1000000000",
    "CAPTIOND_CLIENTS__CONCURRENT": "1000",
    "CAPTIOND_CLIENTS__IMAGES": "1000",
    "CAPTIOND_CLIENTS__BODY_BYTES": "1000000000",
}
BODY = HEAD + png(1) + TAIL


def send(service: Service) -> None:
    """Send the requests of one client."""
    address = urlsplit(service.url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
    for _ in range(REQUESTS):
        connection.request("POST", "/caption", BODY, {**HEADERS, "X-API-Key": SECRET})
        response = connection.getresponse()
        body = json.loads(response.read())
        assert response.status == 200, body
    connection.close()


def processor_seconds(service: Service) -> float:
    """Return the processor time so far of the supervisor and the web processes."""
    processes = [psutil.Process(service.process.pid), *service.children("web")]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(service: Service) -> tuple[float, float]:
    """Return the images a second of one round, and the milliseconds of processor time of one."""
    begun, used = time.perf_counter(), processor_seconds(service)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, [service] * CLIENTS))
    images = CLIENTS * REQUESTS
    seconds = time.perf_counter() - begun
    return images / seconds, 1000 * (processor_seconds(service) - used) / images


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "without", "--workers", "2", "--log-level", "info", **WITHOUT) as a,
        running(Path(folder) / "with", "--workers", "2", "--log-level", "info", **WITH) as b,
    ):
        rounds = []
        for number in range(ROUNDS + 1):
            pair = (measure(a), measure(b)) if number % 2 else (measure(b), measure(a))[::-1]
            rounds.append(pair)
    rounds = rounds[1:]  # the first one fills the caches
    for position, what in enumerate(("images a second", "ms of processor time for an image")):
        without = [pair[0][position] for pair in rounds]
        with_keys = [pair[1][position] for pair in rounds]
        ratio = statistics.median(w / o for o, w in zip(without, with_keys, strict=True))
        sys.stdout.write(
            f"{what}: {statistics.median(without):.2f} without, "
            f"{statistics.median(with_keys):.2f} with keys and limits: {100 * ratio:.1f} %\n"
        )


if __name__ == "__main__":
    main()
