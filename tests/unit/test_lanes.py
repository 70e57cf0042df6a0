"""Which images make the next batch."""

from collections import deque
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from captiond.clients import Client
from captiond.jobs import NOBODY, Lane
from captiond.queues.lanes import PATIENCE, Lanes


@dataclass(frozen=True)
class Named:
    ticket: str
    lane: Lane = Lane.BULK
    group: str = ""
    client: Client = NOBODY
    cost: float = 1.0


def filled(interactive: int, bulk: int) -> Lanes[Named]:
    lanes: Lanes[Named] = Lanes()
    for number in range(interactive):
        lanes.put(Named(f"i{number}", Lane.INTERACTIVE))
    for number in range(bulk):
        lanes.put(Named(f"b{number}"))
    return lanes


def names(batch: list[Named]) -> list[str]:
    return [item.ticket for item in batch]


def test_interactive_images_come_first_and_in_their_own_batch() -> None:
    lanes = filled(2, 5)
    assert names(lanes.take(4)) == ["i0", "i1"]
    assert names(lanes.take(4)) == ["b0", "b1", "b2", "b3"]
    assert names(lanes.take(4)) == ["b4"]
    assert names(lanes.take(4)) == []


def test_every_fifth_batch_is_bulk_while_interactive_images_keep_coming() -> None:
    lanes = filled(0, 100)
    turns: deque[str] = deque()
    for number in range(20):
        lanes.put(Named(f"i{number}", Lane.INTERACTIVE))
        turns.append(lanes.take(1)[0].ticket[0])
    assert turns.count("b") == 20 // (PATIENCE + 1)


def test_a_batch_is_of_one_group_and_the_oldest_item_comes_first() -> None:
    lanes: Lanes[Named] = Lanes()
    for number, group in enumerate("aabbacab"):
        lanes.put(Named(f"{group}{number}", group=group))
    batches = [names(lanes.take(3)) for _ in range(4)]
    assert batches == [["a0", "a1", "a4"], ["b2", "b3", "b7"], ["c5"], ["a6"]]


def test_only_lanes_that_are_allowed_are_taken_from() -> None:
    lanes = filled(1, 2)
    assert names(lanes.take(1, among=[Lane.BULK])) == ["b0"]
    assert names(lanes.take(1, among=[])) == []
    assert names(lanes.take(1, among=[Lane.BULK, Lane.INTERACTIVE])) == ["i0"]


def test_in_each_lane_the_clients_have_turns() -> None:
    lanes = filled(9, 9)
    for lane in Lane:
        lanes.put(Named(f"other {lane.value}", lane, client=Client("other")))
    assert names(lanes.take(2)) == ["i0", "other interactive"]
    assert names(lanes.take(2, among=[Lane.BULK])) == ["b0", "other bulk"]


PUT = st.tuples(st.sampled_from(list(Lane)), st.sampled_from("abc"))


@given(st.lists(PUT, max_size=60), st.integers(1, 9))
def test_each_item_is_taken_once_in_order_within_its_lane_and_group(
    put: list[tuple[Lane, str]], size: int
) -> None:
    queue: Lanes[Named] = Lanes()
    items = [Named(str(number), *entry) for number, entry in enumerate(put)]
    for item in items:
        queue.put(item)
    taken: list[Named] = []
    while queue:
        batch = queue.take(size)
        assert 1 <= len(batch) <= size
        assert len({item.lane for item in batch}) == 1
        assert len({item.group for item in batch}) == 1
        taken += batch
    for kind in {(item.lane, item.group) for item in items}:
        assert [item for item in taken if (item.lane, item.group) == kind] == [
            item for item in items if (item.lane, item.group) == kind
        ]
