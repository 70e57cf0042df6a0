"""How long the next batch waits for more images."""

from dataclasses import dataclass

import pytest

from captiond.jobs import Lane
from captiond.worker.batching import CLIENTS_SHARE, DECODING_SHARE, Batcher


@dataclass(frozen=True)
class Image:
    group: str = ""


def batcher(*ready: Lane, decoding: Lane | None = None) -> Batcher[Image]:
    """A batcher of four images for which the last batch took from 100 s to 110 s."""
    found: Batcher[Image] = Batcher(4)
    found.batch_ended(100.0, 110.0)
    for lane in ready:
        found.put(lane, Image())
    if decoding is not None:
        found.decoding_begun(decoding)
    return found


def test_nothing_is_waited_for_before_an_image_is_ready() -> None:
    assert batcher(decoding=Lane.BULK).wait_seconds(110.0) == 0


def test_a_full_batch_does_not_wait() -> None:
    assert batcher(*[Lane.BULK] * 4, decoding=Lane.BULK).wait_seconds(110.0) == 0


@pytest.mark.parametrize("lane", list(Lane))
def test_a_batch_waits_for_images_that_are_being_decoded(lane: Lane) -> None:
    waiting = batcher(lane, decoding=lane)
    assert waiting.wait_seconds(110.0) == pytest.approx(10 * DECODING_SHARE)
    assert waiting.wait_seconds(110.2) == pytest.approx(10 * DECODING_SHARE - 0.2)
    assert waiting.wait_seconds(110.6) < 0


def test_a_batch_waits_a_little_for_clients() -> None:
    assert batcher(Lane.BULK).wait_seconds(110.0) == pytest.approx(10 * CLIENTS_SHARE)


def test_an_interactive_batch_does_not_wait_for_bulk_images() -> None:
    waiting = batcher(Lane.INTERACTIVE, Lane.BULK, decoding=Lane.BULK)
    assert waiting.wait_seconds(110.0) == pytest.approx(10 * CLIENTS_SHARE)


def test_the_first_batch_does_not_wait() -> None:
    first: Batcher[Image] = Batcher(4)
    first.put(Lane.BULK, Image())
    assert first.wait_seconds(5.0) < 0


def test_decoding_is_counted_by_lane() -> None:
    waiting = batcher(Lane.BULK, decoding=Lane.BULK)
    before = waiting.is_decoding
    waiting.decoding_ended(Lane.BULK)
    assert (before, waiting.is_decoding) == (True, False)
    assert waiting.wait_seconds(110.0) == pytest.approx(10 * CLIENTS_SHARE)


def test_a_batch_has_at_most_the_batch_size() -> None:
    ready = batcher(*[Lane.BULK] * 6)
    assert [len(ready.take()) for _ in range(3)] == [4, 2, 0]
    assert not ready
