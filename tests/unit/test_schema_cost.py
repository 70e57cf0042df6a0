"""What it costs to fill a client's JSON schema."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from captiond.web.dialects.filling import fill
from captiond.web.dialects.findings import Label
from tests.unit.test_schema_filling import IMAGE, of


class Looks(tuple[Label, ...]):
    """Labels that count how often somebody goes through them."""

    number = 0

    def __iter__(self) -> Iterator[Label]:
        Looks.number += 1
        return super().__iter__()


@pytest.mark.parametrize("kind", ["options", "vocabularies"])
def test_the_tags_are_collected_once_however_many_options_there_are(kind: str) -> None:
    """A request may have a thousand images, whose tags were collected for each option."""
    Looks.number = 0
    image = replace(IMAGE, tags=Looks(IMAGE.tags), labels=Looks(IMAGE.labels))
    lists = {f"x{n}": {"type": "array", "items": {"enum": ["cat", f"{n}"]}} for n in range(100)}
    schema = {"enum": [f"{n}" for n in range(100)]} if kind == "options" else of(**lists)
    fill(schema, image)
    assert 0 < Looks.number <= 3
