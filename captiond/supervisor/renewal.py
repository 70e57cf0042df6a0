"""Keeps the lease on this node's claims, and takes over the claims of nodes that are dead."""

import asyncio
from collections.abc import Callable

import structlog

from captiond.store import leases
from captiond.store.engine import Engine
from captiond.supervisor.outage import StorageOutage

log = structlog.get_logger()


async def renew_forever(engine: Engine, node: str, on_requeued: Callable[[], None]) -> None:
    """Renew the lease of `node` again and again.

    `on_requeued` is called when images of a dead node wait for a claim.
    """
    outage = StorageOutage("renewal of the lease")
    while True:
        await asyncio.sleep(leases.RENEW_SECONDS)
        with outage.tolerated():
            await leases.renew(engine, node)
            requeued = await leases.requeue_expired(engine, node)
            if requeued:
                log.warning("expired_lease_requeued", images=requeued)
                on_requeued()
