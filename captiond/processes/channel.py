"""The two ends of a duplex connection between two processes, for asyncio.

A `multiprocessing.Pipe` is made for each child and thrown away with it: nothing is shared that a
killed process could leave locked. Its own `send` and `recv` block, also in the middle of a message
whose sender was stopped, so both ends are read and written through the event loop.
"""

import asyncio
import contextlib
import os
import pickle
import socket
import struct
from multiprocessing.connection import Connection

from captiond.messages import Message

LENGTH = struct.Struct("!I")


class MessageTooLarge(Exception):
    """The process at the other end has sent more bytes than a message may have."""


class ChannelClosed(Exception):
    """The process at the other end is gone, or has closed its end."""


def frame(message: Message) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def unframe(body: bytes) -> Message:
    message: Message = pickle.loads(body)  # noqa: S301 - from our own child or parent
    return message


class Channel:
    """One end. Messages come out in the order in which they were sent; none is torn."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, connection: "Connection[Message, Message]") -> "Channel":
        """Take over a connection; it is closed, and its descriptor lives on in the channel."""
        end = socket.socket(fileno=os.dup(connection.fileno()))
        connection.close()
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Queue a message; one to a process that is gone is dropped, as its end is seen elsewhere.

        What is queued is bounded by what the other side asked for, so nothing waits here.
        """
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ChannelClosed: there will be none.
        """
        return unframe(await self.receive_bytes())

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
        """Wait until what was sent is with the operating system, or the other end is gone."""
        self._writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class BlockingChannel:
    """One end, for a process that does one thing at a time and has no event loop."""

    def __init__(self, connection: "Connection[Message, Message]") -> None:
        self._end = socket.socket(fileno=os.dup(connection.fileno()))
        self._file = self._end.makefile("rb")
        connection.close()

    def send(self, message: Message) -> None:
        self._end.sendall(frame(message))

    def send_bytes(self, body: bytes) -> None:
        """Send a message that the sender has encoded."""
        self._end.sendall(LENGTH.pack(len(body)) + body)

    def receive(self) -> Message:
        """The next message.

        Raises:
            ChannelClosed: there will be none.
        """
        header = self._file.read(LENGTH.size)
        if len(header) < LENGTH.size:
            raise ChannelClosed
        return unframe(self._file.read(LENGTH.unpack(header)[0]))
