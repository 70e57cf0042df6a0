"""Measure what a scrape of the metrics takes: python -m tests.benchmarks.scrapes

The service has captioned images in both lanes, so that all usual series are there. The figure is
the time of a request from a client on the same machine, with the supervisor's answer.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.conftest import png
from tests.service import Service, running

IMAGES, SCRAPES = 20, 200


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        work(service)
        times = sorted(scrape(service) for _ in range(SCRAPES))
        text = service.client.get("/metrics").text
    lines = sum(not line.startswith("#") for line in text.splitlines())
    share = times[int(0.99 * SCRAPES)]
    sys.stdout.write(
        f"{lines} series, {len(text)} bytes: median {median(times) * 1000:.1f} ms, "
        f"p99 {share * 1000:.1f} ms\n"
    )


def work(service: Service) -> None:
    """Caption images in both lanes."""
    for number in range(IMAGES):
        service.client.post("/caption", files={"image": ("a.png", png(number))})
    files = [("images", ("a.png", png(IMAGES + number))) for number in range(IMAGES)]
    accepted = service.client.post("/async-batch-caption", files=files)
    service.finished(accepted.json()["task_id"])


def scrape(service: Service) -> float:
    begun = time.perf_counter()
    service.client.get("/metrics").raise_for_status()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
