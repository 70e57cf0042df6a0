"""A hosted model process whose host fails in a way that nobody has foreseen."""

import asyncio

import pytest

from captiond.bulk.hosted_model import HostedModel, hosted_model
from captiond.jobs import SpooledImage
from captiond.processes.children import ChildProcess
from captiond.settings.config import Settings
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
IMAGE = SpooledImage("file", 0, 1, "hash")


async def test_an_unexpected_error_reaches_everybody_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(_: HostedModel) -> ChildProcess:
        await asyncio.sleep(0)  # until somebody waits
        raise RuntimeError("a fault in captiond")

    monkeypatch.setattr(HostedModel, "_spawn", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        await wait_in_vain()


async def wait_in_vain() -> None:
    """Wait for outcomes that never come. The error is seen here, and then by the caller."""
    async with asyncio.timeout(PATIENCE), hosted_model(Settings(), "cpu") as model:
        waiting = asyncio.create_task(model.caption(IMAGE))
        for work in (model.model(), waiting, model.caption(IMAGE)):
            with pytest.raises(RuntimeError, match="a fault"):
                await work
