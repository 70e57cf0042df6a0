"""How many tags of captions the dictionaries translate: python -m tools.dictionary_report

The captions are those that were written by hand for the tag rules, whose words are as various as
they can be.
"""

import sys
from collections import Counter
from pathlib import Path

from captiond.settings.option_settings import TagSettings
from captiond.tagging.tagger import Taggers
from captiond.tags import Kind, Tag, TagFilter
from captiond.translation.dictionary import FOLDER, read_dictionary
from tools.markdown import table

DATA = Path(__file__).parents[1] / "tests" / "data"
KINDS = (Kind.NOUN, Kind.PHRASE)


def main() -> None:
    """Print the table."""
    tags = tags_of(captions())
    header = ("language", "entries", *(f"tags of the kind {kind}" for kind in KINDS))
    rows = [row(path.stem, tags) for path in sorted(FOLDER.glob("*.tsv"))]
    sys.stdout.write(table(header, rows))


def captions() -> list[str]:
    lines = [
        line
        for name in ("tune", "heldout")
        for line in (DATA / f"tags_gold_{name}.txt").read_text("utf-8").splitlines()
    ]
    return [line.split(" | ")[0] for line in lines if line and not line.startswith("#")]


def tags_of(texts: list[str]) -> list[Tag]:
    wanted, tagged = TagFilter(), Taggers.load(TagSettings()).tag(texts, [None] * len(texts))
    return [tag for tags in tagged for tag in wanted.select(tags)]


def row(language: str, tags: list[Tag]) -> tuple[str, ...]:
    dictionary = read_dictionary(language)
    every = Counter(tag.kind for tag in tags)
    known = Counter(tag.kind for tag in tags if dictionary.translation(tag.tag) is not None)
    shares = (f"{known[kind]} of {every[kind]}" for kind in KINDS)
    return (language, str(len(dictionary.entries)), *shares)


if __name__ == "__main__":
    main()
