"""The caption cache: the same bytes are captioned only once with the same recipe."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from sqlalchemy import Text, bindparam, select, type_coerce

from captiond.jobs import Captioned
from captiond.store.backend import Statement, execute_many
from captiond.store.engine import Engine, looking_up, writing
from captiond.store.results import Unreadable, captioned_from, result_text
from captiond.store.tables import CaptionRow

log = structlog.get_logger()
COLUMNS = ("key", "created_at", "result")
REMEMBER = Statement(
    lambda sql: sql.insert_or_keep(CaptionRow).values(
        {name: bindparam(name, type_=CaptionRow.__table__.c[name].type) for name in COLUMNS}
    )
)


def cache_key(sha256: str, recipe: str) -> str:
    """Return the key of a caption.

    `sha256` is the hash of the image's bytes. `recipe` stands for the model, the generation options
    and the tagger. The tags that a request wants are no part of it: all tags are stored, and each
    response gets a selection.
    """
    return hashlib.sha256(f"{sha256}\0{recipe}".encode()).hexdigest()


async def look_up(engine: Engine, keys: Sequence[str]) -> list[Captioned | None]:
    """Return the captions of these keys, in their order, with None for an unknown key.

    Raises:
        StoreError: The cache cannot be read now.
    """
    text = type_coerce(CaptionRow.result, Text).label("text")
    query = select(CaptionRow.key, text).where(CaptionRow.key.in_(keys))
    async with looking_up(engine) as connection:
        rows = {row.key: row.text for row in await connection.execute(query)}
    return [cached(key, rows[key]) if key in rows else None for key in keys]


def cached(key: str, text: str) -> Captioned | None:
    """Return the caption in a row, or None if the row cannot be read."""
    try:
        return replace(captioned_from(text), cached=True)
    # guard: damaged-caption
    except Unreadable as error:
        log.warning("cache_entry_unreadable", key=key, reason=str(error))
        return None


async def remember(engine: Engine, entries: Mapping[str, Captioned], *, now: float) -> None:
    """Store captions by their keys. A key that exists keeps its caption.

    Raises:
        StoreError: Nothing was stored.
    """
    rows = [
        {"key": key, "created_at": now, "result": result_text(caption)}
        for key, caption in entries.items()
    ]
    if rows:
        async with writing(engine) as connection:
            await execute_many(connection, REMEMBER.on(connection), rows)
