"""The examples, settings and categories in docs/tags.md equal those of the code."""

import json
import re
from pathlib import Path

import pytest

from captiond.settings.option_settings import TagSettings
from captiond.tagging.lexicon import lexicon_files, read_nouns
from captiond.tagging.output import tagged
from captiond.tagging.tagger import Tagger
from captiond.tags import Category, TagFilter
from tests.tagging import tags_of

DOCS = (Path(__file__).parents[2] / "docs" / "tags.md").read_text("utf-8")


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load("en", "captiond/english")


def test_the_table_of_examples(tagger: Tagger) -> None:
    table = DOCS.partition("| caption | tags |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert len(rows) >= 4
    assert [tags_of(tagger, [caption])[0] for caption, _ in rows] == [
        tags.split(", ") for _, tags in rows
    ]


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("an old photo of a television show", "old photo, show, television, television show"),
        ("an empty street", "street"),
        ("seven ducks", "duck"),
        ("a black top", "black top, top"),
        ("a monkey on his back", "back, monkey"),
    ],
)
def test_the_examples_in_the_text(tagger: Tagger, caption: str, tags: str) -> None:
    assert tags_of(tagger, [caption]) == [tags.split(", ")]


def test_the_output_of_the_command(tagger: Tagger) -> None:
    shown = re.search(r'^\$ captiond tags "(.*)"\n(\{.*\})$', DOCS, re.MULTILINE)
    assert shown is not None
    (tags,) = tagger.tag([shown[1]])
    assert json.loads(shown[2]) == tagged(shown[1], tags, TagFilter())


def test_every_setting_and_category_is_documented() -> None:
    settings = [f"`tags.{name}`" for name in TagSettings.model_fields if name != "pipelines"]
    categories = [f"`{category}`" for category in Category]
    assert [name for name in (*settings, *categories) if name not in DOCS] == []


def test_the_size_of_the_lexicon_is_the_real_one() -> None:
    nouns = sum(1 for _ in read_nouns(lexicon_files("en")[0]))
    assert f"{nouns:,} nouns" in DOCS
