"""Each command imports only the large libraries that it needs, so that it starts quickly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import spacy

from tests.patience import PATIENCE
from tests.tagging import add_german_words

LARGE = {
    "PIL", "alembic", "hypercorn", "numpy", "rich", "spacy", "sqlalchemy", "starlette", "torch",
    "transformers", "weasel",
}  # fmt: skip
OF_TAGS = {"numpy", "spacy"}
OF_KEYS = {"rich", "sqlalchemy"}


def large_imports(*arguments: str, cwd: Path) -> set[str]:
    """Run a command, and return which of the large libraries it has imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "captiond", *arguments],
        cwd=cwd,
        env={**os.environ, "CAPTIOND_DATA__DIR": str(cwd / "data")},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    # An import that is refused takes no time, and nothing of the library follows it.
    times = re.findall(r"^import time: +\d+ \| +(\d+) \| +([\w.]+)$", done.stderr, re.MULTILINE)
    imported = {name.split(".")[0] for microseconds, name in times if int(microseconds) > 100}
    return imported & LARGE


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("--help",), {"rich"}),
        (("config", "show"), set()),
        (("tags", "a cat"), OF_TAGS),
        (("openapi",), {"hypercorn", "sqlalchemy", "starlette"}),
    ],
)
def test_a_command_imports_what_it_needs(
    tmp_path: Path, arguments: tuple[str, ...], needed: set[str]
) -> None:
    assert large_imports(*arguments, cwd=tmp_path) == needed


def test_migrations_are_imported_only_where_there_is_one_to_run(tmp_path: Path) -> None:
    assert large_imports("keys", "create", "one", cwd=tmp_path) == {"alembic", *OF_KEYS}
    assert large_imports("keys", "create", "two", cwd=tmp_path) == OF_KEYS


def test_a_pipeline_of_ones_own_may_use_torch(tmp_path: Path) -> None:
    add_german_words(spacy.blank("de")).to_disk(tmp_path / "german")
    own = ("--set", "tags.pipelines.de=german", "--language", "de")
    assert large_imports("tags", *own, "ein Hund", cwd=tmp_path) == {*OF_TAGS, "torch"}
