"""What `captiond serve` says if it cannot start."""

import asyncio
from pathlib import Path

import pytest

from captiond.cli.serve_command import make_stopper, write_address
from captiond.errors import StartupError


def test_an_address_that_cannot_be_written_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="address: cannot be written: No such file"):
        write_address(tmp_path / "missing" / "address", "http://127.0.0.1:8000")


def test_only_a_later_signal_ends_the_drain() -> None:
    """timeout(1) sends each signal twice, and so does a program that passes a Ctrl-C on."""
    stop, ended, clock = asyncio.Event(), [], iter([7.0, 7.0, 7.9, 8.0])
    stopper = make_stopper(stop, end=lambda: ended.append(True), now=lambda: next(clock))
    stopper()
    assert stop.is_set()
    stopper()
    stopper()
    assert ended == []
    stopper()
    assert ended == [True]
