"""The version of the code on disk, beside that of a running process."""

from pathlib import Path

import pytest

import captiond
from captiond.processes.version import OTHER_VERSION, ended_for_its_version


def test_only_another_version_on_disk_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ended_for_its_version(OTHER_VERSION)
    code = tmp_path / "__init__.py"
    monkeypatch.setattr(captiond, "__file__", str(code))
    assert ended_for_its_version(OTHER_VERSION), "the new version is being written"
    code.write_text('"""captiond"""\n\n__version__ = "0.0.1"\n')
    assert ended_for_its_version(OTHER_VERSION)
    assert not ended_for_its_version(1)
    code.write_text(f'__version__ = "{captiond.__version__}"\n')
    assert not ended_for_its_version(OTHER_VERSION)
