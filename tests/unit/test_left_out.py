"""Libraries are imported without some of their modules, which can be imported afterwards."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from captiond.left_out import left_out

LIBRARY = """
try:
    import large_extra
except ImportError:
    large_extra = None
from small_library.commands.main import run
"""


@pytest.fixture
def _library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library that imports another one if it is installed, and its own command line."""
    commands = tmp_path / "small_library" / "commands"
    commands.mkdir(parents=True)
    (commands.parent / "__init__.py").write_text(LIBRARY)
    (commands / "__init__.py").touch()
    (commands / "main.py").write_text("run = 1")
    (tmp_path / "large_extra.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"small_library", "large_extra"}:
            del sys.modules[name]


@pytest.mark.usefixtures("_library")
def test_what_is_left_out_can_be_imported_later() -> None:
    commands = "small_library.commands"
    with left_out("large_extra", stubs=(commands, f"{commands}.main")):
        import small_library  # type: ignore[import-not-found]
    assert (small_library.large_extra, small_library.run) == (None, None)
    import large_extra  # type: ignore[import-not-found]
    from small_library.commands.main import run  # type: ignore[import-not-found]

    assert (large_extra.__name__, run) == ("large_extra", 1)


@pytest.mark.usefixtures("_library")
def test_what_is_imported_already_stays() -> None:
    import small_library

    with left_out("large_extra", stubs=("small_library.commands.main",)):
        import large_extra
        from small_library.commands.main import run
    assert (large_extra.__name__, run, small_library.run) == ("large_extra", 1, 1)
    assert sys.modules["large_extra"] is large_extra
