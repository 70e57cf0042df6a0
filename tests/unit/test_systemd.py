"""What systemd hears from the service, on a socket as systemd opens it."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.host.systemd import Notifier, watchdog_seconds
from captiond.supervisor.watchdog import Progress, Watchdog, asker
from tests.unit.supervised import background, until

pytestmark = pytest.mark.anyio
WATCHED = {"WATCHDOG_USEC": "30000"}  # a message every 10 ms


@pytest.fixture(params=["a path", "the abstract namespace"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of the manager, which does not wait for messages."""
    abstract = request.param == "the abstract namespace"
    address = f"\0captiond-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(address)
        receiving.setblocking(False)
        yield receiving


def environ(manager: socket.socket, **more: str) -> dict[str, str]:
    address = manager.getsockname()
    text = "@" + address[1:].decode() if isinstance(address, bytes) else address
    return {"NOTIFY_SOCKET": text, **more}


def received(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_each_message_arrives(manager: socket.socket) -> None:
    notifier = Notifier(environ(manager))
    notifier.ready("loading the model")
    notifier.status("captioning with captiond/scenes")
    notifier.alive()
    notifier.stopping()
    assert received(manager) == [
        "READY=1\nSTATUS=loading the model",
        "STATUS=captioning with captiond/scenes",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_a_status_is_one_assignment_whatever_it_contains(manager: socket.socket) -> None:
    """The reason why a model cannot be loaded may have several lines, and names of files."""
    notifier = Notifier(environ(manager))
    notifier.status("cannot be read:\nMAINPID=1")
    notifier.ready("the folder \udce9 is empty")
    assert received(manager) == [
        "STATUS=cannot be read: MAINPID=1",
        "READY=1\nSTATUS=the folder ? is empty",
    ]


def test_a_manager_that_has_gone_does_no_harm(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nowhere")}).ready("x")
    Notifier({}).ready("x")


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "that of the process"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(
    variables: dict[str, str], seconds: float | None
) -> None:
    if variables.get("WATCHDOG_PID") == "that of the process":
        variables = {**variables, "WATCHDOG_PID": str(os.getpid())}
    assert watchdog_seconds(variables) == seconds


def test_images_that_wait_and_are_never_finished_are_stuck() -> None:
    progress = Progress(patience=10)
    assert not progress.stuck(waiting=True, finished=0, now=100)
    assert not progress.stuck(waiting=True, finished=0, now=110)
    assert progress.stuck(waiting=True, finished=0, now=111)
    assert not progress.stuck(waiting=True, finished=1, now=112), "one was finished"
    assert not progress.stuck(waiting=True, finished=1, now=122)
    assert not progress.stuck(waiting=False, finished=1, now=140), "an idle service is not stuck"
    assert not progress.stuck(waiting=True, finished=1, now=145), "they wait since 140"


class Situation:
    """A service as the watchdog sees it."""

    def __init__(self) -> None:
        self.answers = True
        self.waiting = False
        self.finished = 0
        self.results_wait = False
        self.stopping = False
        self.looks = 0

    async def ask(self) -> bool:
        return self.answers

    def is_waiting(self) -> bool:
        self.looks += 1
        return self.waiting

    def watchdog(self, notifier: Notifier, *, batch_seconds: float = 600) -> Watchdog:
        return Watchdog(
            notifier,
            self.ask,
            self.is_waiting,
            lambda: self.finished,
            lambda: self.results_wait,
            lambda: self.stopping,
            batch_seconds=batch_seconds,
        )


async def test_the_watchdog_is_told_while_the_service_answers(manager: socket.socket) -> None:
    situation, notifier = Situation(), Notifier(environ(manager, **WATCHED))
    async with background(situation.watchdog(notifier).run()):
        await until(lambda: received(manager) == ["WATCHDOG=1"])
        situation.answers = False
        await silent(manager, situation)
        situation.answers = True
        await until(lambda: "WATCHDOG=1" in received(manager))


async def test_the_watchdog_is_not_told_while_images_are_stuck(manager: socket.socket) -> None:
    situation, notifier = Situation(), Notifier(environ(manager, **WATCHED))
    situation.waiting = True
    async with background(situation.watchdog(notifier, batch_seconds=0.001).run()):
        await silent(manager, situation)
        situation.waiting = False
        await until(lambda: "WATCHDOG=1" in received(manager))


async def test_the_watchdog_is_told_while_no_result_can_be_stored(manager: socket.socket) -> None:
    """A restart does not mend a full disk, and would lose the results that wait."""
    situation, notifier = Situation(), Notifier(environ(manager, **WATCHED))
    situation.waiting = situation.results_wait = True
    with capture_logs() as logs:
        async with background(situation.watchdog(notifier, batch_seconds=0.001).run()):
            await until(lambda: situation.looks >= 5)
            received(manager)
            await until(lambda: "WATCHDOG=1" in received(manager))
            assert logs == []
            situation.results_wait = False
            await silent(manager, situation)


async def test_the_watchdog_is_told_in_a_stop(manager: socket.socket) -> None:
    """Nobody answers then. It is no fault, and systemd has a deadline of its own for the stop."""
    situation, notifier = Situation(), Notifier(environ(manager, **WATCHED))
    situation.answers, situation.stopping = False, True
    with capture_logs() as logs:
        async with background(situation.watchdog(notifier).run()):
            await until(lambda: received(manager) == ["WATCHDOG=1"])
    assert logs == []


async def silent(manager: socket.socket, situation: Situation) -> None:
    """Wait until the watchdog has looked several times without a message."""
    received(manager)
    looks = situation.looks
    await until(lambda: situation.looks >= looks + 5)
    assert received(manager)[1:] == [], "at most one that was under way"


async def test_without_a_watchdog_nothing_is_sent(manager: socket.socket) -> None:
    await Situation().watchdog(Notifier(environ(manager))).run()
    assert received(manager) == []


# ---------------------------------------------------------------- what the service is asked


async def asked(answer: bytes) -> bool:
    """Ask a server that reads a request and then sends these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await asker(f"http://127.0.0.1:{port}")()


async def test_any_answer_counts_and_none_does_not() -> None:
    assert await asked(b"HTTP/1.1 200 OK\r\n\r\n")
    assert await asked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert not await asked(b"")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not await asker(f"http://127.0.0.1:{port}")()
