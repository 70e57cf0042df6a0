"""Every event of the log has a constant name, and docs/log-events.md explains it."""

import ast
from pathlib import Path

import pytest

from tools.log_event_texts import MORE_FIELDS, TEXTS
from tools.log_events import UnknownEvent, calls_in, events

HERE = Path(__file__)
Call = tuple[str, tuple[str, ...], list[str]]


def test_every_event_is_explained_and_every_explained_event_exists() -> None:
    assert sorted(events()) == sorted(TEXTS)


def test_every_explanation_is_a_sentence() -> None:
    for name, text in TEXTS.items():
        assert text.endswith("."), name
        assert text[0].isupper() or text[0] == "`", name


def test_the_fields_that_are_added_are_not_in_the_code_already() -> None:
    assert [name for name in MORE_FIELDS if name not in TEXTS] == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('log.info("a", x=1)', [("a", ("info",), ["x"])]),
        ('log.exception("a")', [("a", ("error",), [])]),
        (
            'log.log(level, "a" if gone else "b", x=1)',
            [
                ("a", ("debug", "info"), ["x"]),
                ("b", ("debug", "info"), ["x"]),
            ],
        ),
        (
            'bound = log.bind(task_id=1)\nbound.warning("a", y=2)',
            [("a", ("warning",), ["task_id", "y"])],
        ),
        ("math.log(2)", []),
    ],
)
def test_events_are_found(
    code: str, expected: list[tuple[str, tuple[str, ...], list[str]]]
) -> None:
    assert [*calls_in(ast.parse(code), HERE)] == expected


def test_a_computed_name_is_refused() -> None:
    """Nobody could search for it, and this page could not list it."""
    with pytest.raises(UnknownEvent):
        [*calls_in(ast.parse('log.info(f"{kind}_died")'), HERE)]
