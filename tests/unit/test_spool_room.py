"""Uploads under way are counted against the spool's limit and the disk's reserve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

from captiond.errors import BodyTooLarge, NoSpace, NotAnImage, SpoolFull
from captiond.jobs import Refused
from captiond.messages import Answer, Ask, State
from captiond.settings.config import LimitSettings
from captiond.store.engine import Engine
from captiond.web.uploading.spool_room import (
    REMOTE_SETTLE_SECONDS,
    SETTLE_SECONDS,
    SpoolRoom,
)
from tests.unit.webprocess import HEALTHY, PNG, web_process

LIMITS = LimitSettings(spool_bytes=1000)
GIB = 1024**3


def request(length: str | None) -> Request:
    headers = [] if length is None else [(b"content-length", length.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers})


def opened(room: SpoolRoom, length: str | None, *, durable: bool = True) -> None:
    with room.upload(request(length), durable=durable, max_bytes=GIB):
        pass


@pytest.mark.parametrize(
    ("free", "length", "refused"),
    [
        (None, "999", False),
        (10, "10", False),
        (10, "11", True),
        (10, None, False),
        (0, None, True),
        (0, "0", False),
        (0, "x", True),
    ],
)
def test_a_task_is_refused_before_its_body_is_read(
    free: int | None, length: str | None, *, refused: bool
) -> None:
    room = SpoolRoom(LIMITS, lambda: State(spool_free=free))
    opened(room, length, durable=False)
    if not refused:
        opened(room, length)
        return
    with pytest.raises(SpoolFull, match="spool_bytes") as error:
        opened(room, length)
    found = error.value
    assert (found.status, found.code, found.retry_after) == (507, "spool_full", 30)


def test_uploads_under_way_count_and_so_do_those_that_are_not_measured_yet() -> None:
    now = 0.0
    room = SpoolRoom(LIMITS, lambda: State(spool_free=10), monotonic=lambda: now)
    with room.upload(request("6"), durable=True, max_bytes=GIB) as upload:
        upload.add(6)
        opened(room, "4")
        with pytest.raises(SpoolFull):
            opened(room, "5")
    assert room.taken == 6
    with pytest.raises(SpoolFull):
        opened(room, "5")
    now = SETTLE_SECONDS
    assert room.taken == 0
    opened(room, "10")


def test_what_is_announced_and_not_sent_takes_no_room_from_others() -> None:
    room = SpoolRoom(LIMITS, lambda: State(spool_free=10))
    with room.upload(request("9"), durable=True, max_bytes=GIB):
        opened(room, "9")
        assert room.taken == 0


def test_an_upload_that_fails_gives_its_room_back() -> None:
    room = SpoolRoom(LIMITS, lambda: State(spool_free=10))
    with suppress(NotAnImage), room.upload(request("9"), durable=True, max_bytes=GIB) as some:
        some.add(5)
        raise NotAnImage
    assert room.taken == 0


@pytest.mark.parametrize("durable", [True, False])
def test_an_upload_whose_file_is_removed_gives_its_room_back_once(*, durable: bool) -> None:
    now = 0.0
    room = SpoolRoom(LIMITS, lambda: State(), monotonic=lambda: now)
    with room.upload(request("9"), durable=durable, max_bytes=GIB) as some:
        some.add(9)
    assert room.taken == 9
    room.release(some)
    assert room.taken == 0
    now = SETTLE_SECONDS
    assert room.taken == 0


@pytest.mark.anyio
async def test_uploads_count_until_their_files_are_removed(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path) as web:
        room = web.services.spool_room
        sending = asyncio.create_task(web.client.post("/caption", files={"image": ("a.png", PNG)}))
        ask: Ask = await web.message(Ask)
        assert room.taken >= len(PNG)
        web.channel.send(Answer(ask.ticket, Refused("no", "corrupt_image")))
        await sending
        assert room.taken == 0
        for wrong in ({"num_beams": "x"}, {}):
            files = {"images": ("a.png", PNG)}
            response = await web.client.post("/async-batch-caption", files=files, data=wrong)
            assert (response.status_code, room.taken > 0) == (
                (422, False) if wrong else (202, True)
            )


def test_a_body_of_unknown_length_takes_room_as_it_arrives() -> None:
    room = SpoolRoom(LIMITS, lambda: State(spool_free=10))
    with room.upload(request(None), durable=True, max_bytes=GIB) as upload:
        upload.add(10)
        with pytest.raises(SpoolFull):
            upload.add(1)
    assert room.taken == 10


def test_what_is_larger_than_the_whole_limit_is_not_to_be_sent_again() -> None:
    room = SpoolRoom(LIMITS, lambda: State(spool_free=1000))
    opened(room, "1000")
    with pytest.raises(BodyTooLarge, match="1000 bytes"):
        opened(room, "1001")
    with room.upload(request(None), durable=True, max_bytes=GIB) as upload:
        upload.add(1000)
        with pytest.raises(BodyTooLarge):
            upload.add(1)
    opened(room, "1001", durable=False)


def test_the_reserve_of_the_disk_is_for_all_uploads() -> None:
    room = SpoolRoom(LIMITS, lambda: State(disk_free=10))
    for durable in (True, False):
        with pytest.raises(NoSpace, match="reserve_bytes"):
            opened(room, "11", durable=durable)


@pytest.mark.anyio
async def test_requests_are_refused_while_the_disk_is_nearly_full(
    store: Engine, tmp_path: Path
) -> None:
    async with web_process(store, tmp_path) as web:

        async def send(path: str, field: str, chunked: bool = False) -> httpx.Response:
            made = web.client.build_request("POST", path, files={field: ("a.png", PNG)})
            if chunked:
                body = await made.aread()

                async def chunks() -> AsyncIterator[bytes]:
                    yield body

                headers = {"content-type": made.headers["content-type"]}
                return await web.client.post(path, content=chunks(), headers=headers)
            return await web.client.send(made)

        await web.set_state(State(HEALTHY.health, HEALTHY.model, (), disk_free=50))
        for path, field in (("/caption", "image"), ("/async-batch-caption", "images")):
            for chunked in (False, True):
                response = await send(path, field, chunked)
                assert (response.status_code, response.json()["code"]) == (507, "no_space")
                assert response.headers["retry-after"] == "30"
        assert list(web.spool.iterdir()) == []
        await web.set_state(HEALTHY)
        assert (await send("/async-batch-caption", "images")).status_code == 202


def test_uploads_that_have_left_the_disk_take_none_of_it() -> None:
    """They count for the limit of the spool until the bucket has been measured."""
    now = 0.0
    state = State(disk_free=10, spool_free=25)
    room = SpoolRoom(LIMITS, lambda: state, remote=True, monotonic=lambda: now)
    with room.upload(request("8"), durable=True, max_bytes=GIB) as first:
        first.add(8)
        with pytest.raises(NoSpace):
            opened(room, "3")
    opened(room, "10")
    with room.upload(request("10"), durable=True, max_bytes=GIB) as upload:
        upload.add(10)
    with pytest.raises(SpoolFull):
        opened(room, "8")
    room.release(first)
    opened(room, "8")
    with room.upload(request("4"), durable=False, max_bytes=GIB) as waits:
        waits.add(4)
    with pytest.raises(NoSpace):
        opened(room, "7", durable=False)
    now = SETTLE_SECONDS
    assert room.taken == 14
    now = REMOTE_SETTLE_SECONDS
    assert room.taken == 0
    opened(room, "10")
