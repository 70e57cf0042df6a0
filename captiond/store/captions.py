"""The caption cache: the same bytes, captioned the same way, are captioned once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from sqlalchemy import Text, select, type_coerce
from sqlalchemy.dialects.sqlite import insert

from captiond.jobs import Captioned
from captiond.store.results import UNREADABLE_JSON, from_json, to_json
from captiond.store.sqlite import Engine, reading, writing
from captiond.store.tables import CaptionRow

log = structlog.get_logger()


def cache_key(sha256: str, recipe: str) -> str:
    """The key of an image's bytes, captioned by `recipe`: model, generation and tagger in one.

    What a request wants of the tags is no part of it: all tags are kept, and chosen from on the
    way out.
    """
    return hashlib.sha256(f"{sha256}\0{recipe}".encode()).hexdigest()


async def look_up(engine: Engine, keys: Sequence[str]) -> list[Captioned | None]:
    """The captions of these keys, None where there is none."""
    text = type_coerce(CaptionRow.result, Text).label("text")
    query = select(CaptionRow.key, text).where(CaptionRow.key.in_(keys))
    async with reading(engine) as connection:
        rows = {row.key: row.text for row in await connection.execute(query)}
    return [cached(key, rows[key]) if key in rows else None for key in keys]


def cached(key: str, text: str) -> Captioned | None:
    """What stands in a row; None, too, if that is damaged, or a newer captiond's."""
    try:
        outcome = from_json(json.loads(text))
    except UNREADABLE_JSON as error:
        log.warning("cache_entry_unreadable", key=key, reason=str(error))
        return None
    return replace(outcome, cached=True) if isinstance(outcome, Captioned) else None


async def remember(engine: Engine, entries: Mapping[str, Captioned], *, now: float) -> None:
    """Keep captions by their keys; what is there already stays."""
    rows = [
        {"key": key, "created_at": now, "result": to_json(caption)}
        for key, caption in entries.items()
    ]
    if rows:
        async with writing(engine) as connection:
            await connection.execute(insert(CaptionRow).on_conflict_do_nothing(), rows)
