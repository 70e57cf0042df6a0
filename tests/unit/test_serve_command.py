"""What `captiond serve` says if it cannot start, and which signals stop it."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from captiond.cli import serve_command
from captiond.cli.serve_command import make_stopper, serve, stop_signals, write_address
from captiond.errors import StartupError
from captiond.settings.config import Settings
from tests.patience import PATIENCE


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


def test_nohup_keeps_the_end_of_the_terminal_from_stopping_the_service() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert set(stop_signals()) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert set(stop_signals()) == {signal.SIGINT, signal.SIGTERM}
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_as_soon_as_the_address_is_known_stops_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def publish(*_: object) -> str:
        signal.raise_signal(signal.SIGTERM)
        return "http://127.0.0.1:8000"

    async def serve_until(stop: asyncio.Event, *_: object, reload: bool) -> bool:
        async with asyncio.timeout(PATIENCE):
            await stop.wait()
        return reload

    monkeypatch.setattr(serve_command, "publish_address", publish)
    monkeypatch.setattr(serve_command, "serve_until", serve_until)
    with socket.socket() as listener:
        assert asyncio.run(serve(Settings(), listener, reload=False)) is False
