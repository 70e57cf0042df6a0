"""One module knows SQLite, and every other one works through it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "captiond"
DOOR = PACKAGE / "store" / "sqlite.py"
DRIVERS = ("sqlite3", "aiosqlite", "sqlalchemy.dialects")
OTHERS = sorted(path for path in PACKAGE.rglob("*.py") if path != DOOR)


def names_of(tree: ast.Module) -> Iterator[str]:
    """Yield imported modules, attributes and the statements in strings."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.Attribute(attr=name):
                yield name
            case ast.Constant(value=str(value)):
                yield value


def is_specific(name: str) -> bool:
    return name == "exec_driver_sql" or name.startswith((*DRIVERS, "PRAGMA "))


def test_the_search_finds_what_is_there() -> None:
    specific = set(filter(is_specific, names_of(ast.parse(DOOR.read_text()))))
    assert {"sqlite3", "exec_driver_sql", "sqlalchemy.dialects.sqlite"} <= specific
    assert any(name.startswith("PRAGMA ") for name in specific)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_is_specific_to_sqlite(path: Path) -> None:
    assert list(filter(is_specific, names_of(ast.parse(path.read_text())))) == []
