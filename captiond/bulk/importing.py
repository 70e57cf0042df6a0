"""`captiond import`: lists images into shards, and captions shard after shard until all are done.

The database has the shards, so several commands on any number of hosts can work at one import, and
one that is started again goes on. A command that dies loses its claims by their deadline; then its
shards are captioned again, and their files replaced.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import structlog

from captiond.bulk.bulk_captioner import BulkCaptioner, bulk_captioner
from captiond.errors import (
    ImportCancelled,
    NoSpace,
    SettingsError,
    StorageFailed,
    StoreDamaged,
    StoreRefused,
    StoreUncertain,
)
from captiond.jobs import Status
from captiond.references.manifests import COLUMN, addresses
from captiond.references.result_rows import result_fields
from captiond.references.shard_files import ShardFiles
from captiond.settings.config import Settings
from captiond.shielding import in_thread, shielded
from captiond.store import shard_claims, shards
from captiond.store.engine import Engine
from captiond.store.patience import until_stored
from captiond.store.queued_shards import hold
from captiond.store.shard_claims import EXTEND_SECONDS, ShardClaim
from captiond.store.shards import ImportState

log = structlog.get_logger()
SHARDS_AT_ONCE = 2  # of each model: while one is finished, the next one is read
LISTED_AT_ONCE = 20  # shards that are added in one transaction
SHARDS_READ = 1000  # numbers of finished shards that are read at once
POLL_SECONDS = 1.0  # while other processes list, or have the last shards
# Errors of the database that end an import. While it is busy or away, the import waits.
LASTING = (StoreRefused, StoreDamaged, StorageFailed, NoSpace)
OnProgress = Callable[[ImportState], None]


@dataclass(frozen=True)
class ImportRun:
    """One process's work at an import. `owner` is unlike that of any other process."""

    engine: Engine
    state: ImportState
    owner: str
    files: ShardFiles
    on_progress: OnProgress

    async def read(self) -> ImportState:
        """Return the import as it is now, and show it.

        Raises:
            ImportCancelled: somebody has cancelled it.
        """
        read = partial(shards.read_import, self.engine, self.state.id)
        state = await until_stored(read, final=LASTING)
        self.on_progress(state)
        if state.status is Status.CANCELLED:
            raise ImportCancelled(f"{state.id} is cancelled")
        return state


async def run_import(run: ImportRun, settings: Settings) -> ImportState:
    """Work at an import until it is finished, and return it then.

    Raises:
        SettingsError: a source cannot be read, or has changed.
        ModelBroken: the model cannot be loaded.
        StoreError: results cannot be stored.
        ImportCancelled: somebody has cancelled it.
    """
    await take_place(run)
    try:
        with only_the_first():
            async with asyncio.TaskGroup() as group:
                extending = group.create_task(keep_claims(run))
                work = [group.create_task(list_patiently(run))]
                for device in settings.model.devices:
                    work.append(group.create_task(caption_shards(run, settings, device)))
                await asyncio.gather(*work)
                extending.cancel()
    finally:
        await shard_claims.release_shards(run.engine, run.state.id, run.owner)
    return await run.read()


async def queue_import(run: ImportRun) -> ImportState:
    """List the images of an import, which the service captions. Return it with all its shards.

    Raises:
        SettingsError: a source cannot be read, or has changed.
        StorageFailed: the place of the results cannot be written to.
        StoreError: the shards cannot be stored.
        ImportCancelled: somebody has cancelled it.
    """
    await take_place(run)
    try:
        with only_the_first():
            async with asyncio.TaskGroup() as group:
                extending = group.create_task(keep_claims(run))
                await list_patiently(run)
                extending.cancel()
    finally:
        await shard_claims.release_shards(run.engine, run.state.id, run.owner)
    return await run.read()


async def take_place(run: ImportRun) -> None:
    """Mark the folder of the results, or check that it is the one that another command has marked.

    On another host, a folder of the same name may be another one.

    Raises:
        StorageFailed: it is, or it cannot be written to.
    """
    files = run.files
    take = files.check_place if run.state.shards else files.mark_place
    await asyncio.to_thread(take, run.state.id)


@contextlib.contextmanager
def only_the_first() -> Iterator[None]:
    """Raise the first error of a task group in place of the group of all."""
    try:
        yield
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from errors  # a traceback shows the others


async def keep_claims(run: ImportRun) -> None:
    """Extend the claims of this process, and that of the listing, until cancelled.

    The next addresses may take minutes: an interrupted listing is read again from its beginning.
    """
    while True:
        await asyncio.sleep(EXTEND_SECONDS)
        extend = partial(shard_claims.extend, run.engine, run.state.id, run.owner)
        await until_stored(extend, final=LASTING)
        await run.read()


# ---------------------------------------------------------------- listing


async def list_patiently(run: ImportRun) -> None:
    """Do what `list_shards` does, from the beginning after each failure of the database.

    If the answer to a commit was lost, only the database knows which shards are there.
    """
    await until_stored(partial(list_shards, run), final=LASTING)


async def list_shards(run: ImportRun) -> None:
    """Add all shards, unless another process does. Then wait until it has, or has died."""
    while not (state := await run.read()).listed:
        if not await shards.begin_listing(run.engine, state.id, run.owner):
            await asyncio.sleep(POLL_SECONDS)
            continue
        listed = await asyncio.to_thread(rest_of_listing, await run.read())
        size = state.shard_images
        while parts := await asyncio.to_thread(next_shards, listed, size):
            if not await shards.add_shards(run.engine, state.id, run.owner, parts):
                break  # another process lists now, or the import is cancelled
        else:
            await shards.end_listing(run.engine, state.id, run.owner, time.time())


def next_shards(listed: Iterator[str], size: int) -> list[list[str]]:
    """Return the next shards, as many as are added at once."""
    parts = (list(islice(listed, size)) for _ in range(LISTED_AT_ONCE))
    return [part for part in parts if part]


def rest_of_listing(state: ImportState) -> Iterator[str]:
    """Return the addresses that have no shard yet.

    A listing that was interrupted is read again from its beginning.

    Raises:
        SettingsError: the place where it was interrupted has another address now.
    """
    listed = (each for source in state.sources for each in addresses(source, state.column))
    last = deque(islice(listed, state.images), maxlen=1)
    # guard: changed-listing
    if state.images and [shards.mark_of(each) for each in last] != [state.last_address]:
        raise SettingsError(
            f"{state.sources[0]}: the images have changed since {state.id} began to list them; "
            "import them into another folder"
        )
    return listed


# ---------------------------------------------------------------- captions


async def caption_shards(run: ImportRun, settings: Settings, device: str) -> None:
    """Caption shards with one model until none is left."""
    async with bulk_captioner(settings, device) as captioner, asyncio.TaskGroup() as group:
        for _ in range(SHARDS_AT_ONCE):
            group.create_task(caption_until_done(run, captioner))


async def caption_until_done(run: ImportRun, captioner: BulkCaptioner) -> None:
    while True:
        # A claim of which this process does not know would be extended with the others for ever.
        claim = await until_stored(partial(claim_next, run), final=(*LASTING, StoreUncertain))
        if claim is not None:
            await caption_shard(run, captioner, claim)
        elif (state := await run.read()).listed and state.open_shards == 0:
            return
        else:
            await asyncio.sleep(POLL_SECONDS)


async def claim_next(run: ImportRun) -> ShardClaim | None:
    """Claim a shard. A cancellation does not interrupt the transaction.

    A claim that is committed after the claims of this process were released would stay for a while.
    """
    return await shielded(shard_claims.claim_shard(run.engine, run.state.id, run.owner))


async def caption_shard(run: ImportRun, captioner: BulkCaptioner, claim: ShardClaim) -> None:
    """Caption the images of a shard, write its file, and finish it."""
    results = await asyncio.gather(*map(captioner.caption_at, claim.addresses))
    rows = [
        {COLUMN: address, **result_fields(result.outcome, result.sha256)}
        for address, result in zip(claim.addresses, results, strict=True)
    ]
    try:
        # guard: shard-is-written-first
        await in_thread(run.files.write, claim.number, rows)
    except StorageFailed:
        # A process that was suspended may have lost the claim. Who has it then removes its file.
        if await hold(run.engine, [claim]):
            raise
    failed = sum(row["error"] is not None for row in rows)
    captioned = len(rows) - failed

    async def finish() -> bool:
        return await shard_claims.finish_shard(
            run.engine, claim, captioned=captioned, failed=failed, now=time.time()
        )

    finished = await until_stored(finish, final=LASTING)
    if not finished:
        log.warning("shard_lost", import_id=claim.import_id, shard=claim.number)
    await run.read()


async def results_so_far(engine: Engine, import_id: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the results of the finished shards of an import, in the order of its listing.

    Raises:
        ImportNotFound: there is no such import.
        StorageFailed: a file cannot be read.
    """
    state = await shards.read_import(engine, import_id)
    files = ShardFiles(state.output, state.form)
    number = -1
    while numbers := await shard_claims.finished_shards(
        engine, import_id, number, limit=SHARDS_READ
    ):
        for number in numbers:
            for row in await asyncio.to_thread(files.read, number):
                yield row
