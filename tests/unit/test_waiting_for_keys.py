"""A web process waits for the keys of its clients before it lets anybody in."""

import asyncio

import pytest

from captiond.messages import Keys
from captiond.processes.channel import Channel
from captiond.processes.start import SPAWN
from captiond.web.supervisor_client import SupervisorClient
from tests.unit.supervised import until
from tests.unit.webprocess import HEALTHY

pytestmark = pytest.mark.anyio


async def test_a_web_process_lets_nobody_in_before_it_has_the_keys() -> None:
    theirs, ours = SPAWN.Pipe(duplex=True)
    channel, supervisor = await Channel.open(theirs), SupervisorClient(await Channel.open(ours))
    required = [supervisor.keys.required]
    listening = asyncio.create_task(supervisor.listen())
    waiting = asyncio.create_task(supervisor.keys_received())
    channel.send(HEALTHY)
    await until(lambda: supervisor.state == HEALTHY)
    assert not waiting.done()
    channel.send(Keys())
    await waiting
    assert [*required, supervisor.keys.required] == [True, False]
    channel.close()
    await listening


async def test_a_web_process_whose_supervisor_has_gone_does_not_wait_for_keys() -> None:
    theirs, ours = SPAWN.Pipe(duplex=True)
    channel, supervisor = await Channel.open(theirs), SupervisorClient(await Channel.open(ours))
    channel.close()
    await supervisor.listen()
    await supervisor.keys_received()
    assert supervisor.closed.is_set()
