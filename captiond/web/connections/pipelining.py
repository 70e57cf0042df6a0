"""The pace of requests that clients send without waiting for the answers to earlier ones.

The handlers of a process share one event loop. A client that waits for each answer has one request
there, and a client that sends a thousand at once on each of its connections would have one of each
connection there at any time. Without a pace, 20 such connections make the answers to all other
clients take four times as long (tests/faults/test_clients.py, the test of crawling clients).
"""

import asyncio

PAUSE_SECONDS = 0.004


class Pace:
    """Lets all connections of a process together begin one pipelined request in a pause."""

    def __init__(self) -> None:
        self._waiting = 0

    async def wait(self) -> None:
        """Wait until the next pipelined request of a connection may begin."""
        self._waiting += 1
        try:
            # guard: pipelined-requests-are-paced
            await asyncio.sleep(PAUSE_SECONDS * self._waiting)
        finally:
            self._waiting -= 1
