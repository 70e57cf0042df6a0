"""Commands whose output cannot be written, or whose standard streams are closed."""

from pathlib import Path

import pytest

from tests.commands import command
from tests.service import captiond


def redirected(redirections: str) -> tuple[str, ...]:
    """Return the command of a shell that runs its arguments with these redirections."""
    return ("sh", "-c", f'exec "$@" {redirections}', "sh")


@pytest.mark.parametrize("arguments", [("--version",), ("caption", "--help"), ("tags", "red")])
def test_a_full_disk_under_the_output_is_one_line(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    result = captiond(*arguments, cwd=tmp_path, prefix=redirected("> /dev/full"))
    said = (result.returncode, result.stderr)
    assert said == (1, "captiond: standard output: No space left on device\n")


def test_an_output_that_nobody_reads_ends_a_command_quietly(tmp_path: Path) -> None:
    pipe = ("bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash")
    result = captiond("openapi", cwd=tmp_path, prefix=pipe)
    assert (result.returncode, result.stderr) == (1, "")


def test_closed_streams_are_like_dev_null(tmp_path: Path) -> None:
    result = captiond("config", "init", cwd=tmp_path, prefix=redirected("<&- >&- 2>&-"))
    assert result.returncode == 0
    written = (tmp_path / "captiond.toml").read_text()
    assert "[server]" in written
    assert "captiond config show" not in written, "what it says went into the file"
    result = captiond("tags", "red", cwd=tmp_path, prefix=redirected("<&- >&- 2>&-"))
    assert result.returncode == 0


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for file, reason in (
        ("gone/openapi.json", "No such file or directory"),
        ("/dev/full", "No space left on device"),
    ):
        result = command("openapi", "--output", file, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (1, f"captiond: {file}: {reason}\n")
