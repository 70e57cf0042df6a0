"""Measure what keys and limits cost over HTTP: python -m tests.benchmarks.keys_http

Two services run side by side, one of them with a key and all limits. A client sends the same image
to each of them in turn, which is answered from the cache. The figure is the median of the ratios of
neighbouring rounds, so a change of the machine's speed concerns both.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from tests.service import DATA, Service, captiond, running

ROUNDS, REQUESTS = 60, 60
PICTURE = (DATA / "boat_and_sun.png").read_bytes()
LIMITS = {
    "CAPTIOND_CLIENTS__REQUESTS": "1000000",
    "CAPTIOND_CLIENTS__CONCURRENT": "100",
    "CAPTIOND_CLIENTS__IMAGES": "1000",
    "CAPTIOND_CLIENTS__BODY_BYTES": "100000000",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, guarded_data = Path(folder) / "open", Path(folder) / "guarded"
        created = captiond(
            "keys", "create", "bench", "--data-dir", str(guarded_data), cwd=Path(folder)
        )
        with running(data) as service, running(guarded_data, **LIMITS) as guarded:
            compare(client(service), client(guarded, created.stdout.strip()))


def client(service: Service, key: str | None = None) -> httpx.Client:
    """Return a connection to a service."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=service.url, headers=headers)


def compare(without: httpx.Client, guarded: httpx.Client) -> None:
    """Print the requests a second of both, and the median of their ratios."""
    seconds(without), seconds(guarded)  # the first round fills the caches
    pairs = [(seconds(without), seconds(guarded)) for _ in range(ROUNDS)]
    rates = [REQUESTS / median(taken) for taken in zip(*pairs, strict=True)]
    share = median(one / other for one, other in pairs)
    sys.stdout.write(
        f"requests a second without keys {rates[0]:.0f}, with a key and all limits {rates[1]:.0f}\n"
        f"with them: {share:.1%} of those without (median of {ROUNDS} pairs of rounds)\n"
    )


def seconds(client: httpx.Client) -> float:
    """Return how long a round takes."""
    began = time.perf_counter()
    for _ in range(REQUESTS):
        response = client.post("/caption", files={"image": ("boat.png", PICTURE)})
        response.raise_for_status()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
