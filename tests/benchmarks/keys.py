"""Measure what keys and limits cost: python -m tests.benchmarks.keys

Two services with two web processes each get the same known images in turn, one of them with a key
and with all limits on. Known images take the least time, so that the cost of keys shows most. Other
load on the machine changes the images a second, but hardly the processor time of the web processes
and the supervisor for an image.
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
FLAGS = ("--workers", "2", "--log-level", "info")
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
    """Return the seconds of one round, and the seconds of processor time."""
    begun, used = time.perf_counter(), processor_seconds(service)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, [service] * CLIENTS))
    return time.perf_counter() - begun, processor_seconds(service) - used


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "without", *FLAGS) as open_service,
        running(Path(folder) / "with", *FLAGS, **WITH) as limited_service,
    ):
        for service in (open_service, limited_service):
            send(service)  # fills the cache
        rounds = []
        for number in range(ROUNDS):
            if number % 2:
                rounds.append((measure(open_service), measure(limited_service)))
            else:
                rounds.append((measure(limited_service), measure(open_service))[::-1])
    images = ROUNDS * CLIENTS * REQUESTS
    ratio = statistics.median(without[0] / limited[0] for without, limited in rounds)
    sys.stdout.write(f"images a second, of those without keys and limits: {100 * ratio:.1f} %\n")
    for position, what in enumerate(("without", "with keys and limits")):
        seconds = sum(each[position][0] for each in rounds)
        processor = sum(each[position][1] for each in rounds)
        sys.stdout.write(
            f"{what}: {images / seconds:.0f} images a second, "
            f"{1000 * processor / images:.3f} ms of processor time for an image\n"
        )


if __name__ == "__main__":
    main()
