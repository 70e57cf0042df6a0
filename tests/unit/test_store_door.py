"""A few modules know SQLite or PostgreSQL, and every other one works through them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "captiond"
STORE = PACKAGE / "store"
DOORS = {*STORE.glob("sqlite*.py"), *STORE.glob("postgres*.py"), STORE / "backend.py"}
DRIVERS = ("sqlite3", "aiosqlite", "psycopg", "sqlalchemy.dialects")
OTHERS = sorted({*PACKAGE.rglob("*.py")} - DOORS)


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
    texts = [door.read_text() for door in DOORS]
    specific = {name for text in texts for name in names_of(ast.parse(text)) if is_specific(name)}
    assert {"sqlite3", "psycopg", "exec_driver_sql", "sqlalchemy.dialects.sqlite"} <= specific
    assert any(name.startswith("PRAGMA ") for name in specific)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_is_specific_to_a_database(path: Path) -> None:
    assert list(filter(is_specific, names_of(ast.parse(path.read_text())))) == []
