"""Child processes are ended and released, whichever wait of their owner is cancelled."""

import asyncio
import os
from itertools import count
from typing import Any, cast

import pytest

from captiond.bulk import hosted_model as hosting
from captiond.bulk.hosted_model import HostedModel, hosted_model
from captiond.decoding import pool as decoding
from captiond.decoding.geometry import Geometry
from captiond.decoding.jobqueue import DecodedImage
from captiond.decoding.pool import DecodePool
from captiond.decoding.slots import Slots
from captiond.jobs import Lane, SpooledImage
from captiond.messages import Decoded, Work
from captiond.processes.channel import Channel, ChannelClosed
from captiond.processes.children import ChildProcess
from captiond.settings.config import Settings
from tests.cancellation import UNDISTURBED, Cancellation, Repeated, cancellations, interrupted
from tests.patience import PATIENCE
from tests.unit.supervised import background

pytestmark = pytest.mark.anyio
TICKETS = map(str, count())


class FakeProcess:
    """A process as `ChildProcess` sees it. It exits when it is killed."""

    exitcode: int | None = None

    def __init__(self) -> None:
        self.sentinel, self._held = os.pipe()
        self.released = False

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        if self.exitcode is None:
            os.close(self._held)
            self.exitcode = -9

    def close(self) -> None:
        os.close(self.sentinel)
        self.released = True


class FakeChannel:
    """A channel whose other end is closed."""

    closed = False

    def send(self, message: object) -> None:
        pass

    async def receive(self) -> None:
        await asyncio.sleep(0)
        raise ChannelClosed

    def close(self) -> None:
        self.closed = True


class Children:
    """The children that a process starts. They exit by themselves, or when they are killed."""

    def __init__(self, *, exit_at_once: bool) -> None:
        self._exit_at_once = exit_at_once
        self._processes: list[FakeProcess] = []
        self._channels: list[FakeChannel] = []

    async def spawn(self, *_: object) -> ChildProcess:
        await asyncio.sleep(0)
        process, channel = FakeProcess(), FakeChannel()
        self._processes.append(process)
        self._channels.append(channel)
        if self._exit_at_once:
            process.kill()
        return ChildProcess("child", cast(Any, process), cast(Channel, channel))

    @property
    def all_released(self) -> bool:
        released = [each.released for each in self._processes]
        return all(released) and all(each.closed for each in self._channels)


async def test_a_child_is_released_however_often_its_end_is_cancelled() -> None:
    async def end(cancellation: Cancellation) -> int:
        children = Children(exit_at_once=False)
        child = await children.spawn()
        waits = await interrupted(child.end(), cancellation)
        assert children.all_released, cancellation
        return waits

    for cancellation in cancellations(await end(UNDISTURBED)):
        await end(cancellation)


async def test_a_host_that_is_cancelled_starts_no_other_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its process may die at the same moment. Whoever waits for the host would wait for ever."""
    monkeypatch.setattr(hosting, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(hosting, "LONGEST_DELAY", 0.001)

    async def run(cancellation: Cancellation) -> int:
        children = Children(exit_at_once=True)
        monkeypatch.setattr(HostedModel, "_spawn", children.spawn)
        waits = await interrupted(HostedModel(Settings(), "cpu").run(), cancellation)
        assert children.all_released, cancellation
        return waits

    for cancellation in cancellations(await run(UNDISTURBED)):
        await run(cancellation)


async def test_the_user_of_a_hosted_model_can_be_cancelled_while_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def use() -> None:
        async with hosted_model(Settings(), "cpu"):
            for _ in range(3):
                await asyncio.sleep(0)

    async def cancel(cancellation: Cancellation) -> int:
        children = Children(exit_at_once=False)
        monkeypatch.setattr(HostedModel, "_spawn", children.spawn)
        waits = await interrupted(use(), cancellation)
        assert children.all_released, cancellation
        return waits

    for cancellation in cancellations(await cancel(UNDISTURBED)):
        await cancel(cancellation)


@pytest.mark.parametrize("wait", [1, 2])  # for the start of a decoder, and for an image
@pytest.mark.parametrize("repeated", Repeated)
async def test_a_cancelled_decoder_is_released(
    monkeypatch: pytest.MonkeyPatch, wait: int, repeated: Repeated
) -> None:
    children = Children(exit_at_once=False)
    monkeypatch.setattr(DecodePool, "_spawn", children.spawn)
    await interrupted(make_pool().keep_decoder(), Cancellation(wait, repeated=repeated))
    assert children.all_released


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_caller_leaves_its_slot_to_others(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    async def exchange(*_: object) -> Decoded:
        await asyncio.sleep(0)
        return Decoded(1, 1, (1, 1))

    monkeypatch.setattr(DecodePool, "_spawn", Children(exit_at_once=False).spawn)
    monkeypatch.setattr(decoding, "exchange", exchange)
    pool = make_pool()
    image = SpooledImage("a", 0, 1, "sha")
    async with background(pool.keep_decoder()):
        for _ in range(2):
            work = Work(next(TICKETS), Lane.INTERACTIVE, image)
            await interrupted(pool.decode(work), Cancellation(1, late))
        async with asyncio.timeout(PATIENCE):
            last = await pool.decode(Work(next(TICKETS), Lane.INTERACTIVE, image))
    assert isinstance(last, DecodedImage)


def make_pool() -> DecodePool:
    """Return a pool with one slot for interactive images."""
    return DecodePool(Settings(), Slots(2, Geometry(1, 1, 3)))
