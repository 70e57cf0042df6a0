"""Limits of clients: the sliding window, and the counters that processes share without a lock."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import pytest

from captiond.clients import Client
from captiond.errors import TooManyRequests
from captiond.keys import Limits
from captiond.usage import (
    ENTRIES,
    LEAST_CLIENTS,
    ClientUsage,
    Usage,
    UsageBoard,
    seconds_until_allowed,
)
from captiond.web.access.admission import Admission
from tests.patience import PATIENCE

WINDOW = 60.0


def counters(parts: int = 1) -> list[ClientUsage]:
    board = UsageBoard(parts)
    return [ClientUsage(board, number, window=WINDOW) for number in range(parts)]


def sent(usage: ClientUsage, name: str, limits: Limits, now: float) -> TooManyRequests | None:
    """Send one request, and return why it is refused."""
    try:
        with admitted(usage, name, limits, now):
            return None
    except TooManyRequests as error:
        return error


@contextmanager
def admitted(usage: ClientUsage, name: str, limits: Limits, now: float) -> Iterator[Admission]:
    """Run the block as a request."""
    admission = Admission(usage, Client(name), limits)
    admission.begin(now)
    try:
        yield admission
    finally:
        admission.end()


# ---------------------------------------------------------------- the window


@pytest.mark.parametrize("limit", [1, 2, 10, 300])
@pytest.mark.parametrize("pause", [0.1, 7.0, 61.0])
def test_no_window_has_many_more_requests_than_the_limit(limit: int, pause: float) -> None:
    """A client that sends all the time: in any 60 s, at most twice the limit is possible by the
    approximation of a sliding window, and on average no more than the limit.
    """
    (usage,) = counters()
    now, accepted = 0.0, list[float]()
    while now < 20 * WINDOW and len(accepted) < 5000:
        if sent(usage, "a", Limits(requests=limit), now) is None:
            accepted.append(now)
        now += pause
    assert accepted
    assert len(accepted) <= limit * (now / WINDOW + 1)
    for first in accepted[:: max(1, limit // 10)]:
        assert sum(first <= each < first + WINDOW for each in accepted) <= 2 * limit


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("start", [0.0, 13.7, 59.9])
def test_a_client_that_waits_as_long_as_it_is_told_is_let_through(limit: int, start: float) -> None:
    (usage,) = counters()
    now = start
    for _ in range(5 * limit):
        refused = sent(usage, "a", Limits(requests=limit), now)
        if refused is not None:
            assert refused.retry_after is not None
            assert 1 <= refused.retry_after <= 2 * WINDOW
            now += refused.retry_after
            assert sent(usage, "a", Limits(requests=limit), now) is None


def test_the_wait_is_the_shortest_one() -> None:
    for previous, current, limit, elapsed in ((10, 0, 10, 5.0), (5, 8, 10, 30.0), (0, 10, 10, 6.0)):
        usage = Usage(7, current, previous)
        wait = seconds_until_allowed(usage, limit, window=WINDOW, elapsed=elapsed)
        assert wait > 0
        for change, allowed in ((-0.01, False), (0.01, True)):
            later = Usage(7, current, previous)
            at = 7 * WINDOW + elapsed + wait + change
            later.roll(int(at / WINDOW))
            now = seconds_until_allowed(later, limit, window=WINDOW, elapsed=at % WINDOW)
            assert (now == 0.0) is allowed


def test_a_client_is_not_limited_by_others_nor_without_a_limit() -> None:
    (usage,) = counters()
    for _ in range(3):
        assert sent(usage, "a", Limits(requests=3), 0) is None
        assert sent(usage, "b", Limits(), 0) is None
    assert sent(usage, "a", Limits(requests=3), 0) is not None
    assert sent(usage, "c", Limits(requests=3), 0) is None
    assert len(usage) == 2, "a client without limits is not counted"


# ---------------------------------------------------------------- what is in progress


def test_what_a_request_holds_is_free_after_it() -> None:
    (usage,) = counters()
    limits = Limits(concurrent=2, images=10, body_bytes=2**20)
    with admitted(usage, "a", limits, 0) as first:
        first.hold_images(6)
        first.hold_body(2**20)
        with admitted(usage, "a", limits, 0) as second:
            with pytest.raises(TooManyRequests, match="10 waiting images"):
                second.hold_images(5)
            with pytest.raises(TooManyRequests, match="1048576 bytes"):
                second.hold_body(1)
            refused = sent(usage, "a", limits, 0)
            assert refused is not None
            assert "2 requests at the same time" in str(refused)
    with admitted(usage, "a", limits, 0) as third:
        third.hold_images(10)
        third.hold_body(2**20)
    assert usage.counted("a", 0).usage == Usage(current=3)


def test_a_request_without_a_key_counts_in_the_window_only() -> None:
    (usage,) = counters()
    limits = Limits(requests=2, concurrent=1)
    for _ in range(2):
        Admission(usage, Client("a"), limits).count_refused(0)
    with pytest.raises(TooManyRequests):
        Admission(usage, Client("a"), limits).count_refused(0)


# ---------------------------------------------------------------- several processes


def test_all_processes_count_together() -> None:
    several = counters(4)
    limits = Limits(requests=10, concurrent=3)
    refused = [sent(several[n % 4], "a", limits, n / 10) for n in range(12)]
    assert [error is None for error in refused] == [True] * 10 + [False] * 2
    assert sent(several[0], "b", limits, 1.2) is None
    later = 2.5 * WINDOW
    with (
        admitted(several[0], "a", limits, later),
        admitted(several[1], "a", limits, later),
        admitted(several[2], "a", limits, later),
    ):
        assert sent(several[3], "a", limits, later) is not None
    assert sent(several[3], "a", limits, later) is None


def test_a_process_that_replaces_another_begins_without_its_requests() -> None:
    board = UsageBoard(2)
    dead = ClientUsage(board, 0, window=WINDOW)
    other = ClientUsage(board, 1, window=WINDOW)
    limits = Limits(concurrent=1)
    Admission(dead, Client("a"), limits).begin(0)
    assert sent(other, "a", limits, 0) is not None
    ClientUsage(board, 0, window=WINDOW)
    assert sent(other, "a", limits, 0) is None


def test_clients_that_are_idle_are_forgotten_everywhere() -> None:
    first, second = counters(2)
    limits = Limits(requests=1)
    busy = Admission(first, Client("busy"), limits)
    busy.begin(0)
    for number in range(3 * LEAST_CLIENTS):
        sent(first, f"client {number}", limits, number * WINDOW)
    assert len(first) <= 2 * LEAST_CLIENTS
    assert first.counted("busy", 0).usage.concurrent == 1
    assert sent(second, "client 0", limits, 3 * LEAST_CLIENTS * WINDOW) is None


def test_the_number_of_clients_is_bounded_within_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captiond.usage.MOST_CLIENTS", 2 * LEAST_CLIENTS)
    (usage,) = counters()
    for number in range(10 * LEAST_CLIENTS):
        sent(usage, f"client {number}", Limits(requests=1), 0)
    assert len(usage) <= 4 * LEAST_CLIENTS


def test_a_client_that_finds_no_free_entry_is_still_counted_in_its_process() -> None:
    first, second = counters(2)
    limits = Limits(requests=1)
    names = [f"client {number}" for number in range(ENTRIES * 2)]
    for name in names:
        sent(first, name, limits, 0)
    assert all(sent(first, name, limits, 0) for name in names)
    shared = sum(sent(second, name, limits, 0) is not None for name in names)
    assert ENTRIES // 2 < shared <= ENTRIES


def report(board: UsageBoard, connection: "Connection[int, str]") -> None:
    usage = ClientUsage(board, 1, window=WINDOW)
    with suppress(EOFError):
        while True:
            entry = usage.counted(connection.recv(), 0)
            entry.usage.current += 1
            usage.publish(entry)
            connection.send(usage.total(entry).current)


def test_a_child_process_shares_the_memory() -> None:
    context = multiprocessing.get_context("spawn")
    board = UsageBoard(2)
    own = ClientUsage(board, 0, window=WINDOW)
    entry = own.counted("a", 0)
    entry.usage.current = 5
    own.publish(entry)
    ours, theirs = context.Pipe()
    child = context.Process(target=report, args=(board, theirs))
    child.start()
    theirs.close()  # so that the end of a child that dies is seen here
    try:
        ours.send("a")
        assert ours.poll(PATIENCE)
        assert ours.recv() == 6
        assert own.total(entry).current == 6
    finally:
        ours.close()
        child.join(PATIENCE)
    assert child.exitcode == 0
