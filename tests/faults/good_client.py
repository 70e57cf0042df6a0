"""A client that sends one image after the other: python -m tests.faults.good_client URL NUMBER

It is a process of its own, so that it waits for the service only. It prints how long each answer
took, in seconds, as a list in JSON.
"""

import json
import sys
import time

import httpx

from tests.conftest import png
from tests.patience import PATIENCE


def waits(url: str, number: int) -> list[float]:
    """Return how long each of so many captions took."""
    seconds = []
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        for each in range(number):
            image = ("a.png", png(each))
            begun = time.perf_counter()
            response = client.post("/caption", files={"image": image})
            seconds.append(time.perf_counter() - begun)
            assert response.status_code == 200, response.text
    return seconds


if __name__ == "__main__":
    json.dump(waits(sys.argv[1], int(sys.argv[2])), sys.stdout)
