"""Simulate nodes that share one PostgreSQL server, with the costs that were measured.

    python -m tests.benchmarks.fleet [--rate 2007] [--cores 2] [--server 150]
        [--round-trip 0.5] [--commit 2.7]

Each node captions `--rate` images a second in batches of 32, and has three batches at a time, as a
model process has. It claims a batch in 11 round trips and stores its results in 5, as
`queue_statements` counts. The server has `--cores` cores, each of which does one statement at a
time, and spends `--server` microseconds on each image, as `queue_rate` measures. A commit waits
`--commit` milliseconds for the disk, and commits do not wait for each other. Tasks are not locked
by two nodes: several clients have several tasks.

    python -m tests.benchmarks.fleet --images 50000000

This adds how long so many images take, and how much of it is decoding.
"""

import argparse
import heapq
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

NODES = (1, 10, 100)
BATCH, WINDOW = 32, 3
CLAIM_TRIPS, RESULT_TRIPS = 11, 5
CLAIM_SHARE = 6.8 / (6.8 + 4.7)  # of the server's time for a batch, by the medians of queue_rate
CONNECTIONS = (3, 16)  # of a node that is all in one: usual and at most
BATCHES = 10  # of the slowest node, in the simulated time; as many before it are a warm-up
SECONDS = 20.0  # of simulated time at least


@dataclass(frozen=True)
class Costs:
    """What one node and the server need. Times are seconds."""

    rate: float
    cores: int
    round_trip: float
    server: float  # for an image
    commit: float

    @property
    def ceiling(self) -> float:
        """The images per second that the server can serve at most."""
        return self.cores / self.server


class Simulation:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), action))

    def run(self, until: float) -> None:
        while self._events[0][0] < until:
            self.now, _, action = heapq.heappop(self._events)
            action()


class Cores:
    """Cores that do jobs in the order of their arrival."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self._simulation = simulation
        self._free = number
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self.busy = 0.0

    def do(self, seconds: float, then: Callable[[], None]) -> None:
        self._waiting.append((seconds, then))
        self._begin()

    def _begin(self) -> None:
        if self._free and self._waiting:
            seconds, then = self._waiting.popleft()
            self._free -= 1
            self.busy += seconds
            self._simulation.after(seconds, lambda: self._ended(then))

    def _ended(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        self._begin()


@dataclass
class Fleet:
    """Nodes at work, and what was measured of them."""

    simulation: Simulation
    costs: Costs
    server: Cores
    claims: list[float] = field(default_factory=list)
    images: int = 0

    def add_node(self, delay: float) -> None:
        """Let a node begin its batches one after the other."""
        model, batch = Cores(self.simulation, 1), BATCH / self.costs.rate
        for number in range(WINDOW):
            self.simulation.after(delay + number * batch, lambda: self._claim(model))

    def _claim(self, model: Cores) -> None:
        begun, whole = self.simulation.now, BATCH * self.costs.server

        def claimed() -> None:
            self.claims.append(self.simulation.now - begun)
            model.do(BATCH / self.costs.rate, captioned)

        def captioned() -> None:
            self._transact(RESULT_TRIPS, (1 - CLAIM_SHARE) * whole, stored)

        def stored() -> None:
            self.images += BATCH
            self._claim(model)

        self._transact(CLAIM_TRIPS, CLAIM_SHARE * whole, claimed)

    def _transact(self, trips: int, seconds: float, then: Callable[[], None]) -> None:
        """Do a transaction: each round trip waits for the network, and for a core of the server."""
        if trips == 0:
            self.simulation.after(self.costs.commit, then)
            return
        left = seconds * (trips - 1) / trips

        def answered() -> None:
            self._transact(trips - 1, left, then)

        def arrived() -> None:
            self.server.do(seconds / trips, answered)

        self.simulation.after(self.costs.round_trip, arrived)


@dataclass(frozen=True)
class Simulated:
    """What a fleet reaches."""

    rate: float
    busy: float  # part of the server's cores
    claim_p50: float
    claim_p99: float


def simulate(nodes: int, costs: Costs) -> Simulated:
    """Let so many nodes work, and measure them after a warm-up."""
    simulation = Simulation()
    server = Cores(simulation, costs.cores)
    fleet = Fleet(simulation, costs, server)
    batch = BATCH / costs.rate
    for number in range(nodes):
        fleet.add_node(number / nodes * batch)
    seconds = max(SECONDS, BATCHES * batch)
    simulation.run(seconds)
    images, busy = fleet.images, server.busy
    fleet.claims.clear()
    simulation.run(2 * seconds)
    claims = sorted(fleet.claims)
    return Simulated(
        (fleet.images - images) / seconds,
        (server.busy - busy) / seconds / costs.cores,
        claims[len(claims) // 2],
        claims[int(0.99 * (len(claims) - 1))],
    )


def hours(images: float, model: float, decode_seconds: float, cores: int) -> float:
    """Return the hours that a machine needs for some images: its model or its decoders decide."""
    decoders = cores / decode_seconds if decode_seconds else model
    return images / min(model, decoders) / 3600


MACHINES = (
    # name, images/s of the model, seconds of a core to decode 100 kB, cores (docs/benchmarks.md)
    ("two cores, BLIP-base fp32", 1.38, 0.0, 2),
    ("two cores, BLIP-base int8", 2.16, 0.0, 2),
    ("two cores, BLIP-large fp32", 0.44, 0.0, 2),
    ("H100, BLIP-base bf16", 2007, 0.0166, 16),
    ("H100, BLIP-base bf16, jpeg_draft", 2007, 0.00525, 16),
    ("H100, BLIP-base fp8, jpeg_draft", 2406, 0.00525, 16),
    ("H100, BLIP-large bf16, jpeg_draft", 962, 0.00525, 16),
    ("H200, BLIP-base bf16", 2275, 0.0139, 16),
    ("H200, BLIP-base bf16, jpeg_draft", 2275, 0.0052, 16),
    ("H200, BLIP-large bf16, jpeg_draft", 1039, 0.0052, 16),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=2007, help="images/s of a node")
    parser.add_argument("--cores", type=int, default=2, help="of the database server")
    parser.add_argument("--round-trip", type=float, default=0.5, help="milliseconds")
    parser.add_argument("--server", type=float, default=150, help="microseconds for each image")
    parser.add_argument("--images", type=float, help="how long these take on one machine")
    parser.add_argument("--commit", type=float, default=2.7, help="milliseconds")
    given = parser.parse_args()
    costs = Costs(
        given.rate, given.cores, given.round_trip / 1e3, given.server / 1e6, given.commit / 1e3
    )
    show(f"the server serves {costs.ceiling:,.0f} images/s at most")
    for nodes in NODES:
        found = simulate(nodes, costs)
        show(
            f"{nodes} nodes: {found.rate:,.0f} images/s of {nodes * costs.rate:,.0f}, server "
            f"{100 * found.busy:.0f} % busy, claim median {1e3 * found.claim_p50:.1f} ms, p99 "
            f"{1e3 * found.claim_p99:.1f} ms, {nodes * CONNECTIONS[0]} connections, "
            f"{nodes * CONNECTIONS[1]} at most"
        )
    for name, model, decode, cores in MACHINES if given.images else ():
        whole = hours(given.images, model, decode, cores)
        decoding = given.images * decode / 3600
        show(f"{name}: {whole:,.1f} hours, decoding {decoding:,.0f} core-hours")


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
