"""Files, settings and names that the docs mention exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from captiond.settings.sources import sections
from tests.unit.test_docs import PAGES, ROOT

PACKAGE = ROOT / "captiond"
DESIGN = ROOT / "docs" / "design.md"
FOLDERS = {path.name for path in (*ROOT.iterdir(), *PACKAGE.iterdir()) if path.is_dir()}
EMBEDDED = {f"captiond/{path.name}" for path in (PACKAGE / "embedded").iterdir()}  # names of models
WRITTEN = {"build", "spool"}  # folders that captiond and commands write
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")


def code_in(page: Path) -> list[str]:
    """Return what stands between backticks in the sentences and tables of a page."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def paths_in(page: Path) -> Iterator[str]:
    """Yield the names of files and folders of the project."""
    for code in code_in(page):
        if PATH.fullmatch(code) and code not in EMBEDDED:
            first, slash, _ = code.partition("/")
            if code.endswith(".py") or (slash and first in FOLDERS - WRITTEN):
                yield code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """Relative to the root of the repository, in docs/design.md also to the package."""
    roots = (ROOT, PACKAGE) if page == DESIGN else (ROOT,)
    missing = [name for name in paths_in(page) if not any((root / name).exists() for root in roots)]
    assert missing == []


def test_the_design_names_each_package_of_the_code() -> None:
    table = DESIGN.read_text("utf-8").partition("\n## Packages\n")[2].partition("\n## ")[0]
    named = {code.rstrip("/") for code in re.findall(r"`([^`]+)`", table)}
    top = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert top - named == {"__init__.py", "__main__.py", "__pycache__"} & top


# ---------------------------------------------------------------- names in the code


@cache
def defined_in(file: Path) -> set[str]:
    """Return the names of functions, classes, variables and attributes that a file defines."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names


def names_after_files() -> list[tuple[str, str]]:
    """Return each file of docs/design.md with the names behind it: "`queues/lanes.py`: `take`"."""
    found = re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, | and )?)+)", DESIGN.read_text("utf-8"))
    return [
        (file, name) for file, names in found for name in re.findall(r"\w+", names) if name != "and"
    ]


def test_names_that_follow_a_file_in_the_design_are_defined_there() -> None:
    pairs = names_after_files()
    assert len(pairs) > 10
    assert [pair for pair in pairs if pair[1] not in defined_in(PACKAGE / pair[0])] == []


def dotted_names() -> Iterator[tuple[Path, str]]:
    """Yield the modules that docs/design.md names with one of their names: `jobs.Options`."""
    modules = {path.stem: path for path in PACKAGE.rglob("*.py")}
    for code in code_in(DESIGN):
        owner, _, name = code.partition(".")
        if owner in modules and name not in {"py", "json"} and re.fullmatch(r"\w+", name):
            yield modules[owner], name


def test_dotted_names_in_the_design_exist() -> None:
    found = list(dotted_names())
    assert len(found) > 5
    assert [(file, name) for file, name in found if name not in defined_in(file)] == []


# ---------------------------------------------------------------- settings


def settings_in(page: Path) -> Iterator[tuple[str, str]]:
    """Yield section and key where a page has `[section] key`, `section.key` or a variable."""
    text = page.read_text("utf-8")
    yield from re.findall(r"\[([a-z]+)\] ([a-z_]+)", text)
    for section, key in re.findall(r"CAPTIOND_([A-Z]+)__([A-Z]+(?:_[A-Z]+)*)", text):
        yield section.lower(), key.lower()
    for code in code_in(page):
        section, dot, key = code.partition("=")[0].strip().partition(".")
        if dot and section in sections() and re.fullmatch("[a-z_]+", key) and key != "py":
            yield section, key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = {(name, key) for name, section in sections().items() for key in section.model_fields}
    assert [each for each in settings_in(page) if each not in known] == []


def test_settings_are_found_in_the_pages() -> None:
    assert len({each for page in PAGES for each in settings_in(page)}) > 40
