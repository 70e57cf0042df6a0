"""Data folders whose names have a meaning in a URL, or are not UTF-8."""

import json
import os
from pathlib import Path

import pytest

from tests.commands import command

NAMES = (
    b"photos?mode=ro&cache=shared",
    b"100%41",
    b"a#b;c",
    b"of b\xfcro",
    b" line\nend ",
    b":memory:",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_database_is_in_its_folder_whatever_the_name(tmp_path: Path, name: bytes) -> None:
    folder, copy = tmp_path / os.fsdecode(name), tmp_path / "copy.db"
    made = command("keys", "create", "a", "--data-dir", folder.name, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (folder / "captiond.db").is_file()
    assert list(tmp_path.iterdir()) == [folder]
    listed = command("keys", "list", "--data-dir", str(folder), cwd=tmp_path)
    assert json.loads(listed.stdout)["name"] == "a"
    saved = command("db", "backup", str(copy), "--data-dir", str(folder), cwd=tmp_path)
    assert (saved.returncode, copy.is_file()) == (0, True), saved.stderr
