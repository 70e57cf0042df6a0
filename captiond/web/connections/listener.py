"""Accepts the connections of a web process, as many as it has descriptors for.

asyncio's own server logs an error for each connection that it cannot accept for want of a
descriptor, up to 1,024 times in a row, and has no limit on the number of connections.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from captiond.web.connections.connection import Connection, Patience
from captiond.web.connections.http1 import Server

ACCEPTED_AT_ONCE = 16  # connections, after which those that are open have their turn
RETRY_SECONDS = 0.2  # from a failed attempt to accept a connection to the next one
LOOK_SECONDS = 0.25  # between two looks for connections that are overdue
REPORT_SECONDS = 10.0  # between two log entries of the same kind
log = structlog.get_logger()


class Listener:
    """The connections of one process. At most `most` are open at the same time.

    When all are in use, a new connection takes the place of one that waits for its client. If none
    does, the new one waits in the kernel's queue.
    """

    def __init__(
        self, listening: socket.socket, server: Server, patience: Patience, *, most: int
    ) -> None:
        self._socket = listening
        self._server = server
        self._patience = patience
        self._most = most
        self._loop = asyncio.get_running_loop()
        self.opened = 0  # connections that are accepted and not closed
        self._connections: set[Connection] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._draining = False
        self._evictions = Repetition("connections_evicted", self._loop.time)
        self._failures = Repetition("accept_failed", self._loop.time)

    async def serve(self, stop: asyncio.Event, *, drain_seconds: float) -> None:
        """Accept connections until `stop` is set, then finish the requests in progress.

        Connections that are not finished after `drain_seconds` are closed.
        """
        self._socket.setblocking(False)
        self._resume()
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._close_overdue())
            try:
                await stop.wait()
                await self._drain(drain_seconds)
            finally:
                self._pause()
                looking.cancel()

    async def _drain(self, seconds: float) -> None:
        self._draining = True
        self._pause()
        await self._server.context.terminated.set()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for connection in self._connections:
            connection.abort()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _close_overdue(self) -> None:
        while True:
            now = self._loop.time()
            for connection in list(self._connections):
                if connection.is_overdue(now, draining=self._draining):
                    connection.close_overdue(now)
            self._evictions.report_rest()
            await asyncio.sleep(LOOK_SECONDS / 5 if self._draining else LOOK_SECONDS)

    # ------------------------------------------------------------ accepting

    def _resume(self) -> None:
        if not self._draining:
            self._loop.add_reader(self._socket, self._accept)

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket)

    def _retry_later(self) -> None:
        self._pause()
        self._loop.call_later(RETRY_SECONDS, self._resume)

    def _accept(self) -> None:
        """Accept what has arrived. Other processes accept from the same socket."""
        for _ in range(ACCEPTED_AT_ONCE):
            if self.opened >= self._most and not self._evict():
                self._retry_later()
                return
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._failures.note(reason=error.strerror)
                self._evict()
                self._retry_later()
                return
            self._open(accepted)

    def _open(self, accepted: socket.socket) -> None:
        self.opened += 1
        task = self._loop.create_task(self._run(accepted))
        self._running.add(task)
        task.add_done_callback(self._close)

    def _close(self, task: asyncio.Task[None]) -> None:
        self.opened -= 1
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connection_failed", exc_info=error)

    async def _run(self, accepted: socket.socket) -> None:
        try:
            accepted.setblocking(False)
            # asyncio does it only for a socket that knows its protocol, which an accepted one does
            # not. Without it, the body of each answer waits 40 ms for the client's delayed ACK.
            # guard: no-delay
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader, writer = await open_streams(self._loop, accepted)
        except OSError:  # the client is gone already
            accepted.close()
            return
        connection = Connection(reader, writer, self._server, self._patience)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _evict(self) -> bool:
        """Close one connection that waits for its client, if there is any."""
        # guard: evict-when-full
        connection = least_useful(each for each in self._connections if each.waits_for_client)
        if connection is None:
            return False
        self._connections.discard(connection)
        connection.evict()
        self._evictions.note(limit=self._most)
        return True


async def open_streams(
    loop: asyncio.AbstractEventLoop, accepted: socket.socket
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the streams of an accepted connection."""
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def least_useful(waiting: Iterable[Connection]) -> Connection | None:
    """Return the quietest connection of the address that has the most, or None if there is none."""
    connections = list(waiting)
    if not connections:
        return None
    held = Counter(connection.address for connection in connections)
    return min(connections, key=lambda each: (-held[each.address], each.last_input))


class Repetition:
    """Logs an event that may happen very often: at most one entry in `REPORT_SECONDS`.

    The entry says in `times` how often it has happened since the last one.
    """

    def __init__(self, event: str, now: Callable[[], float]) -> None:
        self._event = event
        self._now = now
        self._times = 0
        self._reported = float("-inf")
        self._details: dict[str, object] = {}

    def note(self, **details: object) -> None:
        """Count one more, and log it if there was no entry recently."""
        self._times += 1
        self._details = details
        self.report_rest()

    def report_rest(self) -> None:
        """Log what has happened since the last entry, if that is long ago."""
        if self._times and self._now() - self._reported >= REPORT_SECONDS:
            log.warning(self._event, times=self._times, **self._details)
            self._times, self._reported = 0, self._now()
