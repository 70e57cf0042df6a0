"""The form in which the commands print the tags of a caption."""

from dataclasses import asdict
from typing import Any

from captiond.tags import Tag, TagFilter


def tagged(caption: str, tags: tuple[Tag, ...], tag_filter: TagFilter) -> dict[str, Any]:
    """Return `{"caption", "tags", "tag_details"}` with the tags that `tag_filter` selects."""
    details = tag_filter.select(tags)
    return {
        "caption": caption,
        "tags": sorted(tag.tag for tag in details),
        "tag_details": [tag_fields(tag) for tag in details],
    }


def tag_fields(tag: Tag) -> dict[str, Any]:
    """Return the fields of a tag, as the HTTP API has them."""
    fields = asdict(tag)
    english = fields.pop("english")
    if tag.score is None:
        del fields["score"]
    return fields if english is None else {**fields, "tag_en": english}
