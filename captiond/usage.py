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
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

ENTRIES = 4096  # clients that one process can publish at a time
FIELDS = 8  # 64-bit integers of an entry: two of the client's id, and the fields of Usage
ENTRY_BYTES = 8 * FIELDS
PROBES = 8  # entries that a client may be in
LEAST_CLIENTS = 1024  # fewer are not swept
MOST_CLIENTS = 65_536  # with more, clients without a request in progress lose their counts

ClientId = tuple[int, int]


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

    def add(self, other: "Usage") -> None:
        """Add what the client uses in another process. Both must be in the same window."""
        self.current += other.current
        self.previous += other.previous
        self.concurrent += other.concurrent
        self.images += other.images
        self.body_bytes += other.body_bytes


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
        self._secret = secret or secrets.token_bytes(16)
        size = parts * ENTRIES * ENTRY_BYTES
        self._descriptor = anonymous_file(size) if descriptor is None else descriptor
        self._memory = memoryview(mmap.mmap(self._descriptor, size)).cast("q")

    def __reduce__(self) -> tuple[Any, ...]:
        return attach, (self.parts, self._secret, DupFd(self._descriptor))

    def client_id(self, name: str) -> ClientId:
        """Return the id of a client: 128 bits, the same in every process."""
        digest = hashlib.blake2b(name.encode(), digest_size=16, key=self._secret).digest()
        first, second = struct.unpack("qq", digest)
        return first or 1, second  # 0 marks a free entry

    def part(self, number: int) -> "BoardPart":
        """Return the part of one process."""
        size = ENTRIES * FIELDS
        return BoardPart(self._memory[number * size : (number + 1) * size])


def anonymous_file(size: int) -> int:
    descriptor = os.memfd_create("captiond-usage", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


def attach(parts: int, secret: bytes, descriptor: Any) -> UsageBoard:
    return UsageBoard(parts, secret=secret, descriptor=descriptor.detach())


class BoardPart:
    """The counters that one process publishes. Only this process writes them."""

    def __init__(self, memory: "memoryview[int]") -> None:
        self._memory = memory

    def clear(self) -> None:
        """Remove all clients: an earlier process with this part may have left some."""
        self._memory[:] = memoryview(bytes(self._memory.nbytes)).cast("q")

    def places(self, client: ClientId) -> Iterator[int]:
        """Yield the places of the entries that a client may be in."""
        for probe in range(PROBES):
            yield (client[0] + probe) % ENTRIES * FIELDS

    def find(self, client: ClientId) -> int | None:
        """Return the place of a client's entry, or None if it has none."""
        for place in self.places(client):
            if self._memory[place] == client[0] and self._memory[place + 1] == client[1]:
                return place
        return None

    def take(self, client: ClientId) -> int | None:
        """Return a place for a new client, or None if all of its places are taken."""
        for place in self.places(client):
            if self._memory[place] == 0:
                self._memory[place + 1] = client[1]
                self._memory[place] = client[0]
                return place
        return None

    def free(self, place: int) -> None:
        """Remove the client at this place."""
        self._memory[place] = 0
        self.write(place, Usage())

    def read(self, place: int) -> Usage:
        """Return the counters at this place."""
        return Usage(*self._memory[place + 2 : place + FIELDS])

    def write(self, place: int, usage: Usage) -> None:
        """Publish the counters of the client at this place."""
        memory = self._memory
        memory[place + 2] = usage.window
        memory[place + 3] = usage.current
        memory[place + 4] = usage.previous
        memory[place + 5] = usage.concurrent
        memory[place + 6] = usage.images
        memory[place + 7] = usage.body_bytes


# ---------------------------------------------------------------- one process


@dataclass(slots=True)
class CountedClient:
    """A client of this process. `place` is where it is published, None if nowhere."""

    id: ClientId
    usage: Usage
    place: int | None


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
        self._entries: dict[str, CountedClient] = {}
        self._sweep_at = LEAST_CLIENTS

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, name: str, now: float) -> CountedClient:
        """Return the entry of a client, in the window of `now`."""
        entry = self._entries.get(name)
        if entry is None:
            entry = self._add(name, now)
        entry.usage.roll(int(now / self.window))
        return entry

    def total(self, entry: CountedClient) -> Usage:
        """Return what a client uses in all processes."""
        own = entry.usage
        total = Usage(
            own.window, own.current, own.previous, own.concurrent, own.images, own.body_bytes
        )
        for part in self._others:
            place = part.find(entry.id)
            if place is not None:
                other = part.read(place)
                other.roll(own.window)
                total.add(other)
        return total

    def publish(self, entry: CountedClient) -> None:
        """Let the other processes read the counters of a client."""
        if entry.place is None and self._others:
            entry.place = self._own.take(entry.id)
        if entry.place is not None:
            self._own.write(entry.place, entry.usage)

    def _add(self, name: str, now: float) -> CountedClient:
        if len(self._entries) >= self._sweep_at:
            self._sweep(before=int(now / self.window) - 1)
            if len(self._entries) > MOST_CLIENTS:
                self._sweep(before=math.inf)
            self._sweep_at = max(LEAST_CLIENTS, 2 * len(self._entries))
        entry = CountedClient(self._board.client_id(name), Usage(), None)
        self._entries[name] = entry
        return entry

    def _sweep(self, *, before: float) -> None:
        """Forget the clients that have had no request since the window `before`."""
        for name, entry in list(self._entries.items()):
            if entry.usage.window < before and not entry.usage.in_progress:
                del self._entries[name]
                if entry.place is not None:
                    self._own.free(entry.place)
