"""Readiness and status messages to systemd, see sd_notify(3)."""

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends the service's state to systemd, if systemd has started the service."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = watchdog_seconds(environ)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Report that the service works. Without this, the watchdog restarts it."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=draining")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # The environment writes the NUL of the abstract namespace as @.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # An error must not end the service. If the socket is gone, nobody waits for the message.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end,
        ):
            end.sendto(text.encode(), address)


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how often systemd expects a message from this process, or None if it expects none.

    See sd_watchdog_enabled(3). Child processes inherit the variables of the service.
    """
    microseconds, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6 if process in {"", str(os.getpid())} else None
