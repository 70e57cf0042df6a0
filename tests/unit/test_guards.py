"""The guards that `make guards` removes are in the code, and each can be removed."""

import ast
import re

import pytest

from tests.faults.guard_changes import Change, always, remove, value
from tests.faults.guard_changes import without_argument as without
from tests.faults.guards import GUARDS, PROJECT, Guard, all_marks, changed

MARKED = all_marks(PROJECT)


def test_every_mark_belongs_to_a_guard() -> None:
    assert sorted(mark for mark, _, _ in MARKED) == sorted(guard.mark for guard in GUARDS)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.mark)
def test_a_guard_can_be_removed(guard: Guard) -> None:
    ((path, line),) = [(path, line) for mark, path, line in MARKED if mark == guard.mark]
    source = path.read_text()
    assert changed(source, line, guard.change) != ast.unparse(ast.parse(source))


SOURCE = """
def finish(rows, item):
    with timeout(item.seconds):
        if item.key is None:
            return None
        statement = update(rows).where(
            rows.id == item.id,
            rows.attempt == value(item.attempt),
        )
    return run(statement)
"""


@pytest.mark.parametrize(
    ("line", "change", "before", "after"),
    [
        (3, value("timeout(None)"), "timeout(item.seconds)", "timeout(None)"),
        (4, always, "if item.key is None", "if True"),
        (5, remove, "return None", "pass"),
        (8, without, ", rows.attempt == value(item.attempt))", ")"),
        (10, value("0"), "return run(statement)", "return 0"),
    ],
)
def test_only_the_marked_statement_is_changed(
    line: int, change: Change, before: str, after: str
) -> None:
    whole = ast.unparse(ast.parse(SOURCE))
    assert whole.count(before) == 1
    assert changed(SOURCE, line, change) == whole.replace(before, after)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.mark)
def test_a_guard_has_a_test(guard: Guard) -> None:
    file, *chosen = guard.test.split()
    tests = re.findall(r"^(?:async )?def (test_\w+)", (PROJECT / file).read_text(), re.MULTILINE)
    assert any(not chosen or chosen[-1] in test for test in tests)
