"""Checks of imports and their shards for `captiond db check`. They read every row."""

import zlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Function, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.store.shards import unpacked
from captiond.store.tables import ImportRow, ShardRow
from captiond.store.transitions import CANCELLED, COMPLETED, FAILED, OPEN, PENDING, PROCESSING

IS_OPEN = ShardRow.status.in_(OPEN)
HAS_ADDRESSES = ShardRow.addresses.is_not(None)
HAS_OWNER = ShardRow.owner.is_not(None)


@dataclass(frozen=True, slots=True)
class ImportFacts:
    """An import, and the numbers of its shards by state.

    `counted` and `counted_open` are the numbers of shards that the import itself has stored, and
    `listed_images` and `finished_images` the images of all its shards and of its finished ones.
    """

    id: str
    status: str
    finished_at: float | None
    listed: bool
    counted: int
    counted_open: int
    images: int
    captioned: int
    failed: int
    shards: int
    last: int
    still_open: int
    listed_images: int
    finished_images: int
    wrong_owner: int
    wrong_addresses: int

    @property
    def results(self) -> int:
        return self.captioned + self.failed


async def import_contradictions(connection: AsyncConnection) -> list[str]:
    """Return the contradictions between imports and shards, which captiond never writes."""
    unreadable = await unreadable_shards(connection)
    problems = []
    async for each in facts(connection):
        problem = contradiction(each)
        if problem is None and unreadable[each.id]:
            problem = f"the addresses of {unreadable[each.id]} of its shards cannot be read"
        if problem is not None:
            problems.append(f"import {each.id} is {each.status}, but {problem}")
    return problems


async def facts(connection: AsyncConnection) -> AsyncIterator[ImportFacts]:
    wrong_owner = or_(
        (ShardRow.status == PROCESSING) & or_(~HAS_OWNER, ShardRow.claimed_until.is_(None)),
        (ShardRow.status != PROCESSING) & HAS_OWNER,
    )
    wrong_addresses = or_(and_(IS_OPEN, ~HAS_ADDRESSES), and_(~IS_OPEN, HAS_ADDRESSES))
    query = (
        select(
            ImportRow.id,
            ImportRow.status,
            ImportRow.finished_at,
            ImportRow.listed,
            ImportRow.shards.label("counted"),
            ImportRow.open_shards.label("counted_open"),
            ImportRow.images,
            ImportRow.captioned,
            ImportRow.failed,
            func.count(ShardRow.id).label("shards"),
            func.coalesce(func.max(ShardRow.number), -1).label("last"),
            number_of(IS_OPEN).label("still_open"),
            func.coalesce(func.sum(ShardRow.images), 0).label("listed_images"),
            func.coalesce(
                func.sum(case((ShardRow.status == COMPLETED, ShardRow.images), else_=0)), 0
            ).label("finished_images"),
            number_of(wrong_owner).label("wrong_owner"),
            number_of(wrong_addresses).label("wrong_addresses"),
        )
        .select_from(ImportRow)
        .outerjoin(ShardRow, ShardRow.import_id == ImportRow.id)
        .group_by(ImportRow.id)
    )
    async with connection.stream(query) as rows:
        async for row in rows.mappings():
            yield ImportFacts(**row)


def number_of(which: ColumnElement[bool]) -> Function[int]:
    return func.count(case((which, 1)))


def contradiction(facts: ImportFacts) -> str | None:
    """Return what its shards contradict in an import, or None.

    The shards of a finished import are deleted bit by bit, so it may have fewer than it counts.
    """
    wrong = open_contradictions(facts) if facts.status in OPEN else finished_contradictions(facts)
    wrong |= {
        f"it counts {facts.counted_open} open shards, and has {facts.still_open}": (
            facts.counted_open != facts.still_open
        ),
        f"{facts.wrong_owner} of its shards are claimed by nobody, or have an owner and no claim": (
            facts.wrong_owner > 0
        ),
        f"{facts.wrong_addresses} of its shards have no addresses, or keep them": (
            facts.wrong_addresses > 0
        ),
    }
    return next((problem for problem, holds in wrong.items() if holds), None)


def open_contradictions(facts: ImportFacts) -> dict[str, bool]:
    return {
        f"it counts {facts.counted} shards, and has {facts.shards}": facts.counted != facts.shards,
        "the numbers of its shards have gaps": facts.last + 1 != facts.shards,
        f"it counts {facts.images} images, and its shards have {facts.listed_images}": (
            facts.images != facts.listed_images
        ),
        f"it counts {facts.results} results of {facts.finished_images} in its finished shards": (
            facts.results != facts.finished_images
        ),
        "all of its shards are finished": facts.listed and facts.still_open == 0,
        "it has shards": facts.status == PENDING and facts.shards > 0,
        "has a finish time": facts.finished_at is not None,
    }


def finished_contradictions(facts: ImportFacts) -> dict[str, bool]:
    has_all_results = facts.results == facts.images
    return {
        f"{facts.still_open} of its shards are not finished": facts.still_open > 0,
        f"it counts {facts.results} results of {facts.images} images": (
            facts.status != CANCELLED and not has_all_results
        ),
        "none of its images is captioned": facts.status == COMPLETED and facts.captioned == 0,
        "one of its images is captioned": facts.status == FAILED and facts.captioned > 0,
        "has no finish time": facts.finished_at is None,
    }


async def unreadable_shards(connection: AsyncConnection) -> Counter[str]:
    """Return the numbers of open shards whose addresses are damaged, by import."""
    query = select(ShardRow.import_id, ShardRow.images, ShardRow.addresses)
    found = Counter[str]()
    async with connection.stream(query.where(IS_OPEN, HAS_ADDRESSES)) as rows:
        async for import_id, images, addresses in rows:
            found[import_id] += not is_readable(addresses, images)
    return found


def is_readable(addresses: str | None, images: int) -> bool:
    """Return whether these are the packed addresses of so many images."""
    try:
        return len(unpacked(addresses)) == images
    except (ValueError, TypeError, zlib.error):
        return False
