"""A name stands for one thing in the whole package."""

import ast
from collections import Counter
from pathlib import Path

import captiond

MODULES = sorted(Path(captiond.__file__).parent.rglob("*.py"))
ENTRIES = {"__init__", "__main__"}


def test_no_two_modules_have_the_same_name() -> None:
    names = Counter(path.stem for path in MODULES if path.stem not in ENTRIES)
    assert [name for name, number in names.items() if number > 1] == []


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert names
    assert [name for name, number in names.items() if number > 1] == []
