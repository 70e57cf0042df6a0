"""`captiond calibrate` finds the thresholds that part right tags from wrong ones."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.cli.calibrate_command import best_threshold
from captiond.cli.formats import json_text
from captiond.cli.main import run
from captiond.vocabulary import read_tags


def f1(pairs: list[tuple[float, bool]], threshold: float) -> float:
    given_tags = [is_right for score, is_right in pairs if score >= threshold]
    total = sum(is_right for _, is_right in pairs)
    return 2 * sum(given_tags) / (len(given_tags) + total)


@given(st.lists(st.tuples(st.integers(-20, 20).map(float), st.booleans()), min_size=1))
def test_no_threshold_is_better(pairs: list[tuple[float, bool]]) -> None:
    found = best_threshold(pairs)
    if found is None:
        assert not any(is_right for _, is_right in pairs)
        return
    best = max(f1(pairs, score) for score, _ in pairs)
    assert f1(pairs, found) == pytest.approx(best)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    """Run `captiond calibrate` with these arguments."""

    def calibrate(arguments: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", ["captiond", "calibrate", *arguments])
        return run()

    return calibrate


def written(tmp_path: Path) -> list[str]:
    """Write a vocabulary, results and right tags, and return the arguments of the command."""
    (tmp_path / "tags.txt").write_text("Cat = animal\nsofa\nrain\n")
    results: list[dict[str, Any]] = []
    right = []
    for number in range(12):
        has_cat, has_sofa = number < 6, number in (0, 6)
        details = [
            {"tag": "cat", "score": 3.0 if has_cat else 1.0},
            {"tag": "sofa", "score": 9.0 if has_sofa else 0.0},
            {"tag": "noun of the caption"},
        ]
        results.append({"image_path": f"{number}.jpg", "tag_details": details})
        tags = ["cat"] * has_cat + ["SOFA"] * has_sofa
        right.append(f"{number}.jpg = {', '.join(tags)}")
    results.append({"image_path": "bro\u2028ken.jpg", "tag_details": None})
    (tmp_path / "results.jsonl").write_text("\n".join(map(json_text, results)))
    (tmp_path / "right.txt").write_text("\n".join([*right, "other.jpg = rain"]))
    return [str(tmp_path / name) for name in ("tags.txt", "results.jsonl", "right.txt")]


def test_thresholds_part_right_tags_from_wrong_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int]
) -> None:
    assert command(written(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        "# tags.vocabulary_threshold = 2.0",
        "Cat = animal, 2.0",
        "sofa",
        "rain",
    ]
    (tmp_path / "calibrated.txt").write_text(printed)
    assert [tag.threshold for tag in read_tags(tmp_path / "calibrated.txt")] == [2.0, None, None]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("results.jsonl", "{", "line 1 is not a result"),
        ("results.jsonl", "[]", "line 1 is not a result"),
        ("results.jsonl", "[" * 100_000, "line 1 is not a result"),
        ("results.jsonl", '{"image_path": "0.jpg", "tag_details": ["x"]}', "line 1 is not a"),
        ("results.jsonl", '{"image_path": "0.jpg", "tag_details": 3}', "line 1 is not a result"),
        (
            "results.jsonl",
            '{"image_path": "0.jpg", "tag_details": [{"tag": "a", "score": "b"}]}',
            "line 1 is not a result",
        ),
        ("right.txt", "0.jpg", "line 1 is not of the form"),
        ("right.txt", "another.jpg = cat", "has no image of"),
        ("tags.txt", "", "has no tag"),
    ],
    ids=[
        "cut", "list", "deep", "texts", "number", "score", "no right tags", "no image", "no tags",
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[list[str]], int],
    name: str,
    text: str,
    problem: str,
) -> None:
    arguments = written(tmp_path)
    (tmp_path / name).write_text(text)
    assert command(arguments) != 0
    error = capsys.readouterr().err
    assert problem in error
    assert name in error
