"""What each client uses now, counted by all web processes together without a lock or a message.

Each web process counts its own requests, and publishes the counters in its own part of a shared
memory. It reads the parts of the others and adds them up. Only one process writes to a part, so
nothing has to be locked, and a process that is killed or stopped blocks nobody.

Requests are counted by a sliding window: those of the current window, and those of the window
before in proportion to how much of it is still within the last `window` seconds.
"""

import hashlib
import math
import mmap
import os
import secrets
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

BUCKETS = 512  # of each process
BUCKET = 8  # clients that a bucket has space for; a client has one bucket
ENTRIES = BUCKETS * BUCKET  # clients that one process can publish at a time
ID_BYTES = 16
COUNTERS = 6  # 64-bit integers: the fields of Usage
PART_BYTES = ENTRIES * (ID_BYTES + 8 * COUNTERS)  # all ids, then all counters
FREE = bytes(ID_BYTES)  # the id of an entry that no client has
LEAST_CLIENTS = 1024  # fewer are not swept
MOST_CLIENTS = 65_536  # with more, clients without a request in progress lose their counts


@dataclass(slots=True)
class Usage:
    """What one client uses. `window` is the number of the window that `current` counts."""

    window: int = 0
    current: int = 0
    previous: int = 0
    concurrent: int = 0
    images: int = 0
    body_bytes: int = 0

    def roll(self, window: int) -> None:
        """Begin the window with this number."""
        if window != self.window:
            self.previous = self.current if window == self.window + 1 else 0
            self.current, self.window = 0, window

    @property
    def in_progress(self) -> bool:
        """Whether a request of the client is not finished yet."""
        return self.concurrent > 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum of two usages in the same window."""
        return Usage(
            self.window,
            self.current + other.current,
            self.previous + other.previous,
            self.concurrent + other.concurrent,
            self.images + other.images,
            self.body_bytes + other.body_bytes,
        )


def seconds_until_allowed(usage: Usage, limit: int, *, window: float, elapsed: float) -> float:
    """Return after how many seconds one more request is within the limit; 0.0 if it is now.

    `window` is the length of a window, `elapsed` how much of the current one has passed.
    """
    if usage.current + usage.previous * (1 - elapsed / window) + 1 <= limit:
        return 0.0
    if usage.current + 1 <= limit:
        return window * (1 - (limit - 1 - usage.current) / usage.previous) - elapsed
    # The current window becomes the previous one, whose weight then falls.
    return window - elapsed + window * (1 - (limit - 1) / usage.current)


# ---------------------------------------------------------------- shared memory


class UsageBoard:
    """The memory that web processes share: one part for each, with an entry for each client.

    A process that gets it at its start shares the memory. The ids of clients are hashes with a
    secret, so that nobody can choose addresses whose entries collide.
    """

    def __init__(
        self, parts: int, *, secret: bytes | None = None, descriptor: int | None = None
    ) -> None:
        self.parts = parts
        self._secret = secret or secrets.token_bytes(ID_BYTES)
        self._descriptor = anonymous_file(parts * PART_BYTES) if descriptor is None else descriptor
        self._memory = mmap.mmap(self._descriptor, parts * PART_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return attach, (self.parts, self._secret, DupFd(self._descriptor))

    def client_id(self, name: str) -> bytes:
        """Return the id of a client: 128 bits, the same in every process."""
        return hashlib.blake2b(name.encode(), digest_size=ID_BYTES, key=self._secret).digest()

    def part(self, number: int) -> "BoardPart":
        """Return the part of one process."""
        return BoardPart(self._memory, number * PART_BYTES)


def anonymous_file(size: int) -> int:
    descriptor = os.memfd_create("captiond-usage", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


def attach(parts: int, secret: bytes, descriptor: Any) -> UsageBoard:
    return UsageBoard(parts, secret=secret, descriptor=descriptor.detach())


class BoardPart:
    """The counters that one process publishes. Only this process writes them.

    A counter is one aligned 64-bit integer, which the processor reads and writes as a whole.
    """

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._start = start
        counters = memoryview(memory)[start + ENTRIES * ID_BYTES : start + PART_BYTES]
        self._counters = counters.cast("q")

    def clear(self) -> None:
        """Remove all clients: an earlier process with this part may have left some."""
        self._memory[self._start : self._start + PART_BYTES] = bytes(PART_BYTES)

    def find(self, client: bytes) -> int | None:
        """Return the number of a client's entry, or None if it has none."""
        return self._search(client, client)

    def take(self, client: bytes) -> int | None:
        """Return the number of an entry for a new client, or None if its bucket is full."""
        entry = self._search(client, FREE)
        if entry is not None:
            self._write_id(entry, client)
        return entry

    def free(self, entry: int) -> None:
        """Remove the client of an entry."""
        self._write_id(entry, FREE)
        self.write(entry, Usage())

    def read(self, entry: int) -> Usage:
        """Return the counters of an entry."""
        return Usage(*self._counters[COUNTERS * entry : COUNTERS * (entry + 1)])

    def write(self, entry: int, usage: Usage) -> None:
        """Publish the counters of an entry."""
        counters, first = self._counters, COUNTERS * entry
        counters[first] = usage.window
        counters[first + 1] = usage.current
        counters[first + 2] = usage.previous
        counters[first + 3] = usage.concurrent
        counters[first + 4] = usage.images
        counters[first + 5] = usage.body_bytes

    def _search(self, client: bytes, wanted: bytes) -> int | None:
        """Return the number of the entry with the id `wanted` in the bucket of `client`."""
        bucket = int.from_bytes(client[:2], "little") % BUCKETS
        begin = self._start + bucket * BUCKET * ID_BYTES
        end = begin + BUCKET * ID_BYTES
        at = self._memory.find(wanted, begin, end)
        while at >= 0 and (at - begin) % ID_BYTES:  # across two ids, by chance
            at = self._memory.find(wanted, at + 1, end)
        return (at - self._start) // ID_BYTES if at >= 0 else None

    def _write_id(self, entry: int, client: bytes) -> None:
        at = self._start + entry * ID_BYTES
        self._memory[at : at + ID_BYTES] = client


# ---------------------------------------------------------------- one process


@dataclass(slots=True)
class CountedClient:
    """A client of this process. `entry` is where it is published, None if nowhere."""

    id: bytes
    usage: Usage
    entry: int | None = None


class ClientUsage:
    """Counts what the clients of one web process use. `window` is in seconds.

    A client without requests for two windows is forgotten.
    """

    def __init__(self, board: UsageBoard, number: int, *, window: float) -> None:
        self.window = window
        self._board = board
        self._own = board.part(number)
        self._own.clear()
        self._others = [board.part(other) for other in range(board.parts) if other != number]
        self._clients: dict[str, CountedClient] = {}
        self._sweep_at = LEAST_CLIENTS

    def __len__(self) -> int:
        return len(self._clients)

    def counted(self, name: str, now: float) -> CountedClient:
        """Return a client, in the window of `now`."""
        client = self._clients.get(name)
        if client is None:
            client = self._add(name, now)
        client.usage.roll(int(now / self.window))
        return client

    def total(self, client: CountedClient) -> Usage:
        """Return what a client uses in all processes. The result must not be changed."""
        total = client.usage
        for part in self._others:
            entry = part.find(client.id)
            if entry is not None:
                other = part.read(entry)
                other.roll(client.usage.window)
                total = total.plus(other)
        return total

    def publish(self, client: CountedClient) -> None:
        """Let the other processes read the counters of a client."""
        if client.entry is None and self._others:
            client.entry = self._own.take(client.id)
        if client.entry is not None:
            self._own.write(client.entry, client.usage)

    def _add(self, name: str, now: float) -> CountedClient:
        if len(self._clients) >= self._sweep_at:
            self._sweep(before=int(now / self.window) - 1)
            if len(self._clients) > MOST_CLIENTS:
                self._sweep(before=math.inf)
            self._sweep_at = max(LEAST_CLIENTS, 2 * len(self._clients))
        client = CountedClient(self._board.client_id(name), Usage())
        self._clients[name] = client
        return client

    def _sweep(self, *, before: float) -> None:
        """Forget the clients that have had no request since the window `before`."""
        for name, client in list(self._clients.items()):
            if client.usage.window < before and not client.usage.in_progress:
                del self._clients[name]
                if client.entry is not None:
                    self._own.free(client.entry)
