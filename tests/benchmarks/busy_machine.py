"""Measure how long a caption takes while other programs keep all cores busy.

python -m tests.benchmarks.busy_machine      prints a table

`GOMP_SPINCOUNT` is how long a thread of the model waits for the others before it sleeps. 300,000 is
what GNU OpenMP does by itself, 20,000 is what captiond asks for (`captiond/cli/main.py`).
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.service import MODEL, Service, running, upload

REQUESTS, LOOPS_FOR_EACH_CORE = 30, 3
LOOP = "while True: pass"


def main() -> None:
    cores, console = os.cpu_count() or 1, Console()
    table = Table("GOMP_SPINCOUNT", "alone: median, ms", "slowest", "busy: median, ms", "slowest")
    for spins in ("300000", "20000"):
        with tempfile.TemporaryDirectory() as folder:
            flags = ("--model", MODEL, "--set", f"model.threads={cores}")
            with running(Path(folder) / "data", *flags, GOMP_SPINCOUNT=spins) as service:
                alone = seconds(service)
                with busy_loops(LOOPS_FOR_EACH_CORE * cores):
                    busy = seconds(service)
        figures = [1000 * f(times) for times in (alone, busy) for f in (statistics.median, max)]
        table.add_row(spins, *(f"{each:,.0f}" for each in figures))
    console.print(table)


def seconds(service: Service) -> list[float]:
    """Return how long each of some requests took, which the cache of captions cannot answer."""
    times = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        response = service.client.post(
            "/caption", files={"image": upload("boat_and_sun.png")}, data={"no_cache": "true"}
        )
        response.raise_for_status()
        times.append(time.perf_counter() - start)
    return times


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Run processes that compute all the time while the block runs."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
