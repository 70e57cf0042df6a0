"""How long the next batch waits for more images."""

from dataclasses import dataclass, field
from itertools import count

import pytest

from captiond.clients import Client
from captiond.jobs import NOBODY, Generation, Lane
from captiond.worker.batching import CLIENTS_SHARE, DECODING_SHARE, LONGEST_SECONDS, Batcher

NUMBERS = count()


@dataclass(frozen=True)
class Image:
    lane: Lane
    group: str = ""
    client: Client = NOBODY
    cost: float = 1.0
    ticket: str = field(default_factory=lambda: str(next(NUMBERS)))


def batcher(*ready: Lane, decoding: Lane | None = None) -> Batcher[Image]:
    """A batcher of four images for which the last batch took from 100 s to 110 s."""
    found: Batcher[Image] = Batcher(4)
    found.batch_ended([], 100.0, 110.0)
    for lane in ready:
        found.put(Image(lane))
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
    first.put(Image(Lane.BULK))
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


def test_an_image_of_another_client_is_in_the_next_batch() -> None:
    ready = batcher(*[Lane.INTERACTIVE] * 20)
    ready.take()
    mine = Image(Lane.INTERACTIVE, client=Client("mine"))
    ready.put(mine)
    assert mine in ready.take()


def test_captions_with_many_beams_and_tokens_do_not_make_a_batch_of_minutes() -> None:
    """Images of other clients have to wait for it, also for the very first one."""
    usual, heavy = Generation().cost, Generation(num_beams=8, max_new_tokens=100).cost
    first: Batcher[Image] = Batcher(8)
    for _ in range(8):
        first.put(Image(Lane.BULK, cost=heavy))
    assert len(first.take()) == 1
    ready: Batcher[Image] = Batcher(8)
    for _ in range(8):
        ready.put(Image(Lane.BULK, cost=usual))
    batch = ready.take()
    assert len(batch) == 8
    ready.batch_ended(batch, 0.0, 4.0)
    for _ in range(8):
        ready.put(Image(Lane.BULK, cost=heavy))
    batch = ready.take()
    seconds = len(batch) * heavy / usual * 0.5
    assert seconds <= max(LONGEST_SECONDS, heavy / usual * 0.5)
    ready.batch_ended(batch, 4.0, 4.1)
    assert len(ready.take()) > 1, "they take less time than it seemed"


def test_images_that_are_withdrawn_do_not_make_the_next_batch_longer() -> None:
    ready: Batcher[Image] = Batcher(8)
    for _ in range(16):
        ready.put(Image(Lane.BULK, cost=Generation().cost))
    ready.batch_ended(ready.take()[:1], 0.0, LONGEST_SECONDS)
    assert len(ready.take()) == 1


def test_images_of_imports_yield_to_all_others() -> None:
    waiting = batcher(Lane.IMPORT, Lane.BULK, Lane.IMPORT)
    waiting.decoding_begun(Lane.INTERACTIVE)
    assert [image.lane for image in waiting.take()] == [Lane.BULK]
    assert (bool(waiting), waiting.take(), waiting.has_others) == (False, [], True)
    waiting.decoding_ended(Lane.INTERACTIVE)
    assert (bool(waiting), waiting.has_others) == (True, False)
    assert [image.lane for image in waiting.take()] == [Lane.IMPORT] * 2
