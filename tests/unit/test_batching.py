"""Who goes into the next batch."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from captiond.inference.batching import PATIENCE, Lanes
from captiond.jobs import Lane


def filled(interactive: int, bulk: int) -> Lanes[str]:
    lanes: Lanes[str] = Lanes()
    for number in range(interactive):
        lanes.put(Lane.INTERACTIVE, f"i{number}")
    for number in range(bulk):
        lanes.put(Lane.BULK, f"b{number}")
    return lanes


def test_interactive_goes_first_and_alone() -> None:
    lanes = filled(2, 5)
    assert lanes.take(4) == ["i0", "i1"]
    assert lanes.take(4) == ["b0", "b1", "b2", "b3"]
    assert lanes.take(4) == ["b4"]
    assert lanes.take(4) == []


def test_bulk_gets_its_turn_while_interactive_keeps_coming() -> None:
    lanes = filled(0, 100)
    turns: deque[str] = deque()
    for number in range(20):
        lanes.put(Lane.INTERACTIVE, f"i{number}")
        turns.append(lanes.take(1)[0][0])
    assert turns.count("b") == 20 // (PATIENCE + 1)


@given(st.lists(st.sampled_from(list(Lane)), max_size=60), st.integers(1, 9))
def test_nothing_is_lost_doubled_or_overtaken_within_its_lane(lanes: list[Lane], size: int) -> None:
    queue: Lanes[tuple[Lane, int]] = Lanes()
    for number, lane in enumerate(lanes):
        queue.put(lane, (lane, number))
    taken: list[tuple[Lane, int]] = []
    while queue:
        batch = queue.take(size)
        assert 1 <= len(batch) <= size
        assert len({lane for lane, _ in batch}) == 1
        taken += batch
    for lane in Lane:
        assert [n for a, n in taken if a is lane] == [n for n, a in enumerate(lanes) if a is lane]
