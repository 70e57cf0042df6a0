"""A caption's tags as the commands print them."""

from dataclasses import asdict
from typing import Any

from captiond.tags import Tag, TagFilter


def tagged(caption: str, tags: tuple[Tag, ...], wanted: TagFilter) -> dict[str, Any]:
    """`{"caption", "tags", "tag_details"}` with the wanted ones of `tags`."""
    details = wanted.select(tags)
    return {
        "caption": caption,
        "tags": sorted(tag.tag for tag in details),
        "tag_details": [asdict(tag) for tag in details],
    }
