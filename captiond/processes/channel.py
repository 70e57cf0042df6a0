"""The two ends of the duplex pipe between a parent and a child process.

Each child has its own `multiprocessing.Pipe`, which is discarded together with the child. A killed
process can therefore leave nothing locked that another process uses. The `send` and `recv` of a
`Connection` block, even in the middle of a message whose sender was stopped, so an event loop reads
and writes the sockets itself.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterable
from multiprocessing.connection import Connection

from captiond.messages import Message
from captiond.processes.pickles import pickled, unpickled

LENGTH = struct.Struct("!I")


class MessageTooLarge(Exception):
    """The process at the other end has sent more bytes than a message may have."""


class ChannelClosed(Exception):
    """The process at the other end has exited, or has closed its end."""


def frame(message: Message) -> bytes:
    """Return a message as bytes: its length, and the pickled message."""
    body = pickled(message)
    return LENGTH.pack(len(body)) + body


class Channel:
    """One end of a pipe, for asyncio. Messages arrive whole, in the order they were sent in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, connection: "Connection[Message, Message]") -> "Channel":
        """Take over a connection: close it, and use a duplicate of its descriptor."""
        end = socket.socket(fileno=os.dup(connection.fileno()))
        connection.close()
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Queue a message. It is dropped if the other process has exited.

        The sender never waits: the number of queued messages is bounded by what the other process
        has asked for.
        """
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    def send_all(self, messages: Iterable[Message]) -> None:
        """Queue messages as `send` does, with one call of the kernel."""
        frames = b"".join(map(frame, messages))
        if frames and not self._writer.is_closing():
            self._writer.write(frames)

    async def receive(self) -> Message:
        """Wait for the next message, and return it.

        Raises:
            ChannelClosed: the other process has exited; no message follows.
        """
        return unpickled(await self.receive_bytes())

    async def receive_bytes(self, limit: int | None = None) -> bytes:
        """Return the bytes of the next message, for a process whose messages are not unpickled.

        Raises:
            ChannelClosed: there will be none.
            MessageTooLarge: the message has more than `limit` bytes, which are not read.
        """
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            if limit is not None and length > limit:
                raise MessageTooLarge(f"{length} bytes, at most {limit} are allowed")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChannelClosed from error

    async def flush(self) -> None:
        """Wait until the kernel has taken all queued messages, or the other process has exited."""
        self._writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def close(self) -> None:
        """Close this end. Messages that are still queued are sent first."""
        self._writer.close()


class BlockingChannel:
    """One end of a pipe, for a process without an event loop, which does one thing at a time."""

    def __init__(self, connection: "Connection[Message, Message]") -> None:
        self._end = socket.socket(fileno=os.dup(connection.fileno()))
        self._file = self._end.makefile("rb")
        connection.close()

    def send(self, message: Message) -> None:
        """Send a message. Raises OSError if the other process has exited."""
        self._end.sendall(frame(message))

    def send_bytes(self, body: bytes) -> None:
        """Send a message that the sender has encoded."""
        self._end.sendall(LENGTH.pack(len(body)) + body)

    def receive(self) -> Message:
        """Wait for the next message, and return it.

        Raises:
            ChannelClosed: the other process has exited; no message follows.
        """
        header = self._file.read(LENGTH.size)
        if len(header) < LENGTH.size:
            raise ChannelClosed
        return unpickled(self._file.read(LENGTH.unpack(header)[0]))
