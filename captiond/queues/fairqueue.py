"""A queue of several clients' items, which are taken in fair turns. Pure: no I/O, no clock.

It is start-time fair queueing: Goyal, Vin, Cheng, "Start-time Fair Queueing: A Scheduling Algorithm
for Integrated Services Packet Switching Networks", SIGCOMM 1996. Several items may be worked on at
the same time, as in its form SFQ(D): Jin, Chase, Kaur, "Interposed Proportional Sharing for a
Storage Service Utility", SIGMETRICS 2004.

Each item has a cost. The first item of a client has a start tag: the virtual time, or the finish
tag of the client's last item if that is later. Its finish tag is its start tag plus its cost
divided by the client's weight. The item with the lowest start tag is taken next, and the virtual
time becomes its start tag. Two clients that always have items waiting therefore get service in
proportion to their weights, up to the cost of one item of each. A client that comes anew is the
next one, or the next after others that come anew, however many items the other clients have.

The cost may be an estimate: the difference is charged when the item is finished.
"""

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from captiond.clients import Client

T = TypeVar("T")
MOST_IDLE = 1024  # clients without items whose finish tags are remembered
SPARE_TURNS = 16  # outdated entries of the heap that are always tolerated


@dataclass(slots=True)
class Flow(Generic[T]):
    """One client that has items waiting or taken.

    `items` have their costs, by their keys. `start` is the start tag of the first one, `finish` the
    finish tag of the last one that was taken. `taken` items are not finished. `turn` is the number
    of the flow's entry in the heap, or None if no item waits.
    """

    client: Client
    finish: float
    start: float = 0.0
    items: OrderedDict[Hashable, tuple[T, float]] = field(default_factory=OrderedDict)
    taken: int = 0
    turn: int | None = None


Turn = tuple[float, int, Flow[T]]  # a start tag, the number that decides between equal tags


class FairQueue(Generic[T]):
    """Items of several clients. A step takes O(log n) for n clients, and memory is O(n + items).

    Each item that was taken must be reported with `finished`, or returned with `put_back`.
    """

    def __init__(self) -> None:
        self._flows: dict[str, Flow[T]] = {}
        self._idle: OrderedDict[str, float] = OrderedDict()  # finish tags
        self._turns: list[Turn[T]] = []  # a heap
        self._turn = 0
        self._now = 0.0
        self._waiting = 0
        self._clients = 0

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._waiting

    @property
    def clients(self) -> int:
        """The number of clients that have an item waiting."""
        return self._clients

    @property
    def remembered(self) -> int:
        """The number of clients that the queue has any state of."""
        return len(self._flows) + len(self._idle)

    def waiting(self, client: str) -> int:
        """Return how many items of a client wait."""
        flow = self._flows.get(client)
        return len(flow.items) if flow else 0

    def taken(self, client: str) -> int:
        """Return how many items of a client are taken and not finished."""
        flow = self._flows.get(client)
        return flow.taken if flow else 0

    def put(self, client: Client, key: Hashable, item: T, cost: float) -> None:
        """Append an item to those of its client. The client has no other item of this key."""
        flow = self._flow_of(client)
        assert key not in flow.items, f"two items of one client have the key {key!r}"
        flow.items[key] = item, cost
        self._waiting += 1
        if flow.turn is None:
            self._clients += 1
            self._schedule(flow, max(self._now, flow.finish))

    def put_back(self, client: Client, key: Hashable, item: T, cost: float) -> None:
        """Return an item that was taken: it is the first of its client, as if it had not been.

        Several items are returned in the reverse order.
        """
        flow = self._flow_of(client)
        flow.taken = max(0, flow.taken - 1)
        flow.items[key] = item, cost
        flow.items.move_to_end(key, last=False)
        flow.finish -= cost / client.weight
        self._waiting += 1
        self._clients += flow.turn is None
        self._schedule(flow, flow.finish, ahead=True)

    def first(self) -> tuple[Client, T]:
        """Return the item that is next, and its client. Raises IndexError if no item waits."""
        self._drop_outdated()
        flow = self._turns[0][2]
        return flow.client, next(iter(flow.items.values()))[0]

    def take(self) -> T:
        """Remove the next item and return it. Raises IndexError if no item waits."""
        self._drop_outdated()
        flow = heapq.heappop(self._turns)[2]
        return self._serve(flow, next(iter(flow.items)))

    def take_group(
        self, size: int, group_of: Callable[[T], Hashable], *, most_cost: float = math.inf
    ) -> list[T]:
        """Remove up to `size` items in their turns, all of the group of the next one.

        Items of other groups keep their turns. Together the items cost at most `most_cost`, unless
        it is only one item. The result is empty if no item waits.
        """
        if size == 1:  # whatever its group is: no other item has to be compared with it
            return [self.take()] if self else []
        batch: list[T] = []
        passed: list[Turn[T]] = []
        matching: dict[str, deque[Hashable]] = {}
        group = group_of(self.first()[1]) if self else None
        while len(batch) < size and self._drop_outdated():
            turn = heapq.heappop(self._turns)
            flow = turn[2]
            keys = matching.get(flow.client.name)
            if keys is None:
                alike = [key for key, (item, _) in flow.items.items() if group_of(item) == group]
                keys = matching[flow.client.name] = deque(alike)
            cost = flow.items[keys[0]][1] if keys else 0.0
            if not keys or (batch and cost > most_cost):
                passed.append(turn)
                continue
            most_cost -= cost
            batch.append(self._serve(flow, keys.popleft()))
        for turn in passed:
            heapq.heappush(self._turns, turn)
        return batch

    def remove(self, client: str, key: Hashable) -> T | None:
        """Remove an item that waits, and return it; None if it does not wait."""
        flow = self._flows.get(client)
        if flow is None or key not in flow.items:
            return None
        item, _ = flow.items.pop(key)
        self._waiting -= 1
        if not flow.items:
            self._end_turn(flow)
        return item

    def finished(self, client: str, *, extra: float = 0.0) -> None:
        """Note that an item is finished which was taken. It cost `extra` more than was estimated.

        The client's next item starts later then, or earlier if `extra` is negative.
        """
        flow = self._flows.get(client)
        if flow is None:
            return
        flow.taken = max(0, flow.taken - 1)
        flow.finish += extra / flow.client.weight
        if flow.turn is None:
            self._forget_if_idle(flow)
        elif extra > 0:
            self._schedule(flow, max(flow.start, flow.finish))
        elif extra < 0:
            self._schedule(flow, min(flow.start, max(self._now, flow.finish)))

    def clear(self) -> list[T]:
        """Remove all items that wait, and return them, those of one client together."""
        items = [item for flow in self._flows.values() for item, _ in flow.items.values()]
        for flow in list(self._flows.values()):
            flow.items.clear()
            self._end_turn(flow)
        self._waiting = 0
        return items

    # ------------------------------------------------------------ turns

    def _flow_of(self, client: Client) -> Flow[T]:
        flow = self._flows.get(client.name)
        if flow is None:
            flow = Flow(client, self._idle.pop(client.name, self._now))
            self._flows[client.name] = flow
        flow.client = client  # its weight may be another one now
        return flow

    def _serve(self, flow: Flow[T], key: Hashable) -> T:
        """Take an item of the flow that was removed from the heap."""
        item, cost = flow.items.pop(key)
        self._waiting -= 1
        self._now = max(self._now, flow.start)
        self._forget_caught_up()
        flow.finish = flow.start + cost / flow.client.weight
        flow.taken += 1
        if flow.items:
            self._schedule(flow, max(self._now, flow.finish))
        else:
            self._end_turn(flow)
        return item

    def _schedule(self, flow: Flow[T], start: float, *, ahead: bool = False) -> None:
        """Give a flow its place in the heap; an earlier entry is outdated from now on.

        It is behind, or `ahead` of, the other flows with the same start tag.
        """
        self._turn += 1
        flow.start, flow.turn = start, -self._turn if ahead else self._turn
        heapq.heappush(self._turns, (start, flow.turn, flow))
        if len(self._turns) > 2 * self._clients + SPARE_TURNS:
            self._turns = [turn for turn in self._turns if turn[2].turn == turn[1]]
            heapq.heapify(self._turns)

    def _drop_outdated(self) -> bool:
        """Remove outdated entries from the top of the heap. Return whether an entry is left."""
        while self._turns and self._turns[0][2].turn != self._turns[0][1]:
            heapq.heappop(self._turns)
        return bool(self._turns)

    # ------------------------------------------------------------ idle clients

    def _end_turn(self, flow: Flow[T]) -> None:
        self._clients -= flow.turn is not None
        flow.turn = None
        self._forget_if_idle(flow)

    def _forget_if_idle(self, flow: Flow[T]) -> None:
        """Keep only the finish tag of an idle client, and that only while it may matter."""
        if flow.items or flow.taken:
            return
        del self._flows[flow.client.name]
        if not self._flows:  # nobody is served, so everybody starts anew
            self._idle.clear()
            self._turns.clear()
            self._now = 0.0
        elif flow.finish > self._now:
            self._idle[flow.client.name] = flow.finish
            if len(self._idle) > MOST_IDLE:
                self._idle.popitem(last=False)

    def _forget_caught_up(self) -> None:
        """Forget idle clients whose finish tags the virtual time has reached."""
        while self._idle and next(iter(self._idle.values())) <= self._now:
            self._idle.popitem(last=False)
