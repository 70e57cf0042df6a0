"""Standard output of the commands."""

import io
import sys
from pathlib import Path

import pytest

from captiond.cli.streams import WIDTHS, set_up_streams
from tests.service import captiond


@pytest.mark.parametrize(("encoding", "cat"), [("utf-8", "猫"), ("latin-1", "\\u732b")])
def test_characters_that_standard_output_cannot_have_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, cat: str
) -> None:
    path = tmp_path / "printed"
    with path.open("w", encoding=encoding) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        set_up_streams()
        assert isinstance(sys.stdout, io.TextIOWrapper)
        sys.stdout.write("a 猫 in caf\udce9")
        sys.stdout.flush()
    assert path.read_text(encoding) == f"a {cat} in caf\\udce9"


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("width", ["0", "", "wide"])
def test_a_terminal_without_a_width_has_the_usual_one(
    tmp_path: Path, name: str, width: str
) -> None:
    shown = captiond("tags", "--help", cwd=tmp_path, **{name: width})
    assert "Usage: captiond tags" in shown.stdout
