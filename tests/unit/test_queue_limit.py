"""The queue of tasks is bounded in images and in bytes, and says when there is room again."""

import math
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.errors import QueueFull
from captiond.host.systemd import Notifier
from captiond.messages import State
from captiond.settings.client_settings import ClientSettings
from captiond.settings.config import LimitSettings
from captiond.store.engine import Engine
from captiond.store.queueview import Backlog
from captiond.supervisor.drainrate import SLOT_SECONDS, SLOTS, DrainRate, two_digits
from captiond.supervisor.roster import Roster
from captiond.supervisor.statusboard import StatusBoard
from captiond.web.async_tasks.queue_limit import (
    MOST_SECONDS,
    UNKNOWN_SECONDS,
    check_queue,
    retry_after,
)
from tests.unit.webprocess import HEALTHY, PNG, web_process

LIMITS = LimitSettings(queued_images=100, queued_bytes=1000)


@pytest.mark.parametrize(
    ("backlog", "new", "seconds"),
    [
        (Backlog(99, 500), Backlog(1, 500), None),
        (Backlog(99, 500), Backlog(21, 1), 10),  # 20 images over, 2 images per second
        (Backlog(50, 1000), Backlog(1, 200), 5),  # 200 bytes over, 20 bytes per image
        (Backlog(0, 0), Backlog(9999, 99999), None),
    ],
)
def test_a_task_has_to_fit_into_the_queue(
    backlog: Backlog, new: Backlog, seconds: int | None
) -> None:
    if seconds is None:
        check_queue(backlog, new, LIMITS, rate=2.0)
        return
    with pytest.raises(QueueFull) as error:
        check_queue(backlog, new, LIMITS, rate=2.0)
    assert (error.value.status, error.value.retry_after) == (503, seconds)


def test_the_limit_of_bytes_can_be_off() -> None:
    limits = LimitSettings(queued_bytes=0)
    check_queue(Backlog(1, 10**18), Backlog(1, 1), limits, rate=0.0)


@given(st.floats(0, 1e9), st.floats(0, 1e6))
def test_the_time_is_bounded(images: float, rate: float) -> None:
    assert 1 <= retry_after(images, rate) <= MOST_SECONDS
    assert retry_after(images, 0.0) == UNKNOWN_SECONDS


def test_the_rate_is_that_of_the_slots_in_which_images_were_finished() -> None:
    rate = DrainRate()
    assert rate.rate(0.0) == 0.0
    for image in range(30):
        rate.finished(image / 2)
    assert rate.rate(SLOT_SECONDS - 0.1) == 0.0, "the first slot has not ended"
    assert rate.rate(SLOT_SECONDS) == 2.0
    for _ in range(15):
        rate.finished(10 * SLOT_SECONDS)
    assert rate.rate(11 * SLOT_SECONDS) == 1.5
    assert rate.rate((SLOTS + 2) * SLOT_SECONDS) == 1.0
    assert rate.rate(1e6) == 0.0


@given(st.floats(1e-6, 1e6))
def test_two_digits_are_near_enough(value: float) -> None:
    assert two_digits(value) == pytest.approx(value, rel=0.051)
    assert math.isclose(two_digits(two_digits(value)), two_digits(value))


def test_the_state_has_the_rate_and_the_space() -> None:
    now = 0.0
    board = StatusBoard(Roster(), Notifier({}), ["model0"], monotonic=lambda: now)
    for _ in range(60):
        board.bulk_finished()
    now = SLOT_SECONDS
    board.spool_measured(5)
    board.disk_measured(7, writable=True)
    state = board.state
    assert (state.bulk_rate, state.spool_free, state.disk_free) == (4.0, 5, 7)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "limits", [LimitSettings(queued_images=3), LimitSettings(queued_bytes=3 * len(PNG))]
)
async def test_a_full_queue_is_503_and_stores_nothing(
    store: Engine, tmp_path: Path, limits: LimitSettings
) -> None:
    async with web_process(store, tmp_path, limits=limits) as web:
        await web.set_state(State(HEALTHY.health, HEALTHY.model, (), bulk_rate=0.1))
        two = [("images", (f"{n}.png", PNG)) for n in range(2)]
        assert (await web.client.post("/async-batch-caption", files=two)).status_code == 202
        stored = len(list(web.spool.iterdir()))
        refused = await web.client.post("/async-batch-caption", files=two)
        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
        assert 10 <= int(refused.headers["retry-after"]) <= MOST_SECONDS
        assert len(list(web.spool.iterdir())) == stored


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("clients", "full"),
    [
        (ClientSettings(), replace(HEALTHY, bulk_rate=1.0)),
        (ClientSettings(images=1), HEALTHY),
        (ClientSettings(), replace(HEALTHY, spool_free=0)),
        (ClientSettings(), replace(HEALTHY, disk_free=0)),
    ],
    ids=["queue", "client", "spool", "disk"],
)
async def test_a_request_that_is_sent_again_gets_its_task_whatever_is_full(
    store: Engine, tmp_path: Path, clients: ClientSettings, full: State
) -> None:
    """It adds no work. Only the body tells whether it is the same request."""
    limits, headers = LimitSettings(queued_images=1, spool_bytes=100_000), {"Idempotency-Key": "k"}
    async with web_process(store, tmp_path, limits=limits, clients=clients) as web:

        async def send(image: bytes, **headers: str) -> httpx.Response:
            files = {"images": ("a.png", image)}
            return await web.client.post("/async-batch-caption", files=files, headers=headers)

        first = await send(PNG, **headers)
        assert first.status_code == 202
        await web.set_state(full)
        stored = list(web.spool.iterdir())
        assert (await send(PNG)).status_code in {429, 503, 507}
        again, other = await send(PNG, **headers), await send(PNG + b"other", **headers)
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["location"] == first.headers["location"]
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert list(web.spool.iterdir()) == stored
