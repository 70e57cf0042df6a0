"""Clients that keep a captiond busy over HTTP, in processes of their own.

They import the standard library only, so that they start at once, and speak just enough HTTP/1.1,
so that they leave the processor to the service.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from multiprocessing import get_context

EDGE = b"--edge\r\n"
PART = b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
END = b"\r\n--edge--\r\n"
HEAD = (
    "POST /caption HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {length}\r\n"
    "Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
)
START_SECONDS = 1.0  # for the processes to be there before the load begins
LAST_SECONDS = 20.0  # for the answers that are still to come when the load is over
GOOD = "200"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the requests go, and the image files that they carry in turn."""

    host: str
    port: int
    images: tuple[bytes, ...]

    def requests(self) -> list[bytes]:
        return [self._request(EDGE + PART + image + END) for image in self.images]

    def _request(self, body: bytes) -> bytes:
        head = HEAD.format(host=self.host, port=self.port, length=len(body))
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when answers count; requests are sent from `start` on. All are of
    `time.monotonic`, which is the same clock for all processes of a machine.
    """

    start: float
    begin: float
    end: float

    @classmethod
    def of(cls, now: float, *, warm: float, seconds: float) -> "Window":
        begin = now + START_SECONDS + warm
        return cls(now + START_SECONDS, begin, begin + seconds)

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(slots=True)
class Answers:
    """The seconds of each answer within the window, and what else came, by its status or error."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Answers") -> None:
        self.seconds += other.seconds
        self.failures += other.failures


def load(target: Target, clients: int, processes: int, window: Window) -> Answers:
    """Let so many clients send one request after the other, until the window is over."""
    processes = min(processes, clients)
    shares = [clients // processes + (n < clients % processes) for n in range(processes)]
    answers = Answers()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for found in pool.map(drive, *zip(*((target, n, window) for n in shares), strict=True)):
            answers.add(found)
    return answers


def drive(target: Target, clients: int, window: Window) -> Answers:
    """Be so many clients, in this process."""
    return asyncio.run(drive_all(target.requests(), target, clients, window))


async def drive_all(
    requests: Sequence[bytes], target: Target, clients: int, window: Window
) -> Answers:
    answers = Answers()
    await asyncio.sleep(max(0.0, window.start - time.monotonic()))
    with suppress(TimeoutError):
        async with asyncio.timeout(window.end + LAST_SECONDS - time.monotonic()):
            async with asyncio.TaskGroup() as group:
                for number in range(clients):
                    turn = islice(cycle(requests), number % len(requests), None)
                    group.create_task(be_client(turn, target, window, answers))
    return answers


async def be_client(
    requests: "islice[bytes]", target: Target, window: Window, answers: Answers
) -> None:
    """Send one request after the other over one connection; a broken one ends the client."""
    try:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        while (sent := time.monotonic()) < window.end:
            writer.write(next(requests))
            status = await answer(reader)
            note(answers, window, sent, status)
        writer.close()
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        answers.failures[type(error).__name__] += 1


async def answer(reader: asyncio.StreamReader) -> str:
    """Return the status of the next answer, whose body is read and dropped."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines if line)
    await reader.readexactly(int(fields["content-length"]))
    return first.split(" ")[1]


def note(answers: Answers, window: Window, sent: float, status: str) -> None:
    """Count an answer, if it came within the window."""
    now = time.monotonic()
    if not window.begin <= now < window.end:
        return
    if status == GOOD:
        answers.seconds.append(now - sent)
    else:
        answers.failures[status] += 1
