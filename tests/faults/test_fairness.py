"""One client sends as much as it can; another client's single images are answered all the same."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count

import httpx
from PIL import Image

from tests.conftest import png
from tests.faults.harness import SOAK, median, record, rounds
from tests.patience import PATIENCE
from tests.service import Service

SECONDS = 2.0  # and two batches: how long another client's image may take
ASKED = rounds(3, 5)  # images of the other client, one after the other
NUMBERS = count(1)
BOMBS = "images that take long to decode"
TOKENS = str(rounds(40, 100))
LONG = {"num_beams": "8", "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}


@dataclass(frozen=True)
class Flood:
    """What one client sends at once: requests with so many images, all with the same fields."""

    name: str
    images: list[bytes]
    requests: int = 1
    fields: dict[str, str] | None = None

    def post(self, client: httpx.Client, request: int) -> httpx.Response:
        images = self.images[request :: self.requests]
        files = [("images", (f"{n}.png", image)) for n, image in enumerate(images)]
        return client.post("/batch-caption", files=files, data=self.fields)


def floods() -> list[Flood]:
    bomb = slow_to_decode(rounds(4000, 7000))
    bombs = [bomb + str(next(NUMBERS)).encode() for _ in range(rounds(10, 50))]
    return [
        Flood("many images", fresh(rounds(300, 1000)), requests=10),
        Flood(BOMBS, bombs),
        Flood("8 beams and many tokens", fresh(rounds(40, 100)), fields=LONG),
    ]


def fresh(number: int) -> list[bytes]:
    """Return images that were not captioned before."""
    return [png(next(NUMBERS)) for _ in range(number)]


def slow_to_decode(side: int) -> bytes:
    """Return a small file that takes more than half a second to decode, with 7000 pixels a side."""
    buffer = BytesIO()
    Image.new("RGB", (side, side), (90, 120, 30)).save(buffer, "JPEG", progressive=True)
    return buffer.getvalue()


@contextmanager
def client_at(service: Service, address: str) -> Iterator[httpx.Client]:
    """A client with an address of its own, all of which are this machine's."""
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    with httpx.Client(transport=transport, base_url=service.url, timeout=PATIENCE) as client:
        yield client


def test_no_client_makes_another_wait(service: Service) -> None:
    with (
        client_at(service, "127.0.0.1") as greedy,
        client_at(service, "127.0.0.2") as other,
    ):
        for flood in floods():
            begun = time.monotonic()
            with ThreadPoolExecutor(flood.requests) as pool:
                batches = len(service.logged("batch"))
                sent = [pool.submit(flood.post, greedy, n) for n in range(flood.requests)]
                service.wait_for_entries("batch", batches + 1)
                waits = [seconds_of(other, image) for image in images_beside(flood)]
                assert not all(map(Future.done, sent)), f"{flood.name}: it waited for all of them"
            check_all_captioned(sent, flood)
            longest = max(batch["seconds"] for batch in service.logged("batch")[batches:])
            judge(flood, waits, longest, (time.monotonic() - begun) / len(flood.images))


def images_beside(flood: Flood) -> list[bytes]:
    """Return new images, and one that the flood has far behind if that is a usual image as well."""
    last = fresh(1) if flood.name == BOMBS else [flood.images[-1]]
    return [*fresh(ASKED - 1), *last]


def seconds_of(client: httpx.Client, image: bytes) -> float:
    begun = time.monotonic()
    response = client.post("/caption", files={"image": ("one.png", image)})
    assert response.status_code == 200, response.text
    return time.monotonic() - begun


def check_all_captioned(sent: list[Future[httpx.Response]], flood: Flood) -> None:
    """The images of a large request wait for each other, and are not refused."""
    answers = [future.result() for future in sent]
    assert {answer.status_code for answer in answers} == {200}
    results = [result for answer in answers for result in answer.json()["results"]]
    assert [result["error"] for result in results] == [None] * len(flood.images)


def judge(flood: Flood, waits: list[float], longest: float, each: float) -> None:
    """Check the times, in seconds, of a flood whose images took `each` on average.

    No decoder is interrupted. On a machine with much other work, an image may take it more than the
    usual time. Tests beside this one may hold up an image, so half of them have to do.
    """
    slowest = max(waits) if SOAK else median(waits)
    record(
        f"fair turns: {flood.name}",
        rounds=len(flood.images),
        slowest_s=round(slowest, 2),
        longest_batch_s=round(longest, 2),
        each_s=round(each, 2),
    )
    allowed = 2 * longest + max(SECONDS, 2 * each)
    assert slowest <= allowed, (flood.name, waits, longest, each)
