"""The replies of image decoders, in a format that cannot execute code.

An image decoder parses bytes that strangers have sent. If such bytes take a decoder over, its reply
must not take over the model process as well, which unpickling would allow. So replies are
MessagePack of exactly these fields and types, within limits. Its codes are those of decoders only:
they become labels of metrics, which are kept for as long as the service runs.
"""

from typing import Annotated

import msgspec

from captiond.errors import CaptiondError, ImageError, SpoolError
from captiond.jobs import Refused
from captiond.messages import Decoded

MAX_REPLY_BYTES = 16384
MAX_ERROR_CHARACTERS = 2000
Side = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]  # in pixels


class MalformedReply(Exception):
    """A reply that no decoder of ours sends."""


class FilledReply(
    msgspec.Struct, frozen=True, tag="filled", tag_field="kind", forbid_unknown_fields=True
):
    """The slot is filled: with pixels of the stored size, of an upright image of the other size."""

    width: Side
    height: Side
    stored: tuple[Side, Side]


class RefusedReply(
    msgspec.Struct, frozen=True, tag="refused", tag_field="kind", forbid_unknown_fields=True
):
    """The image cannot be decoded."""

    error: Annotated[str, msgspec.Meta(max_length=MAX_ERROR_CHARACTERS)]
    code: str
    status: int


class MemoryNeeded(
    msgspec.Struct, frozen=True, tag="needed", tag_field="kind", forbid_unknown_fields=True
):
    """The decoder waits for this much memory. It is the only reply that another one follows."""

    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**48)]


ERRORS: tuple[type[CaptiondError], ...] = (ImageError, *ImageError.__subclasses__(), SpoolError)
STATUSES = {error.code: error.status for error in ERRORS}  # of what a decoder may refuse
DECODER = msgspec.msgpack.Decoder(FilledReply | RefusedReply | MemoryNeeded, strict=True)


def encode_reply(reply: Decoded | Refused | MemoryNeeded) -> bytes:
    """Return a reply as bytes. A long error message is cut off."""
    if isinstance(reply, MemoryNeeded):
        return msgspec.msgpack.encode(reply)
    if isinstance(reply, Decoded):
        return msgspec.msgpack.encode(FilledReply(reply.width, reply.height, reply.stored))
    error = reply.error[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
    return msgspec.msgpack.encode(RefusedReply(error, reply.code, reply.status))


def decode_reply(body: bytes) -> Decoded | Refused | MemoryNeeded:
    """Return the reply that `encode_reply` has encoded.

    Raises:
        MalformedReply: these bytes are no reply.
    """
    try:
        reply = DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedReply(str(error)) from error
    if isinstance(reply, MemoryNeeded):
        return reply
    if isinstance(reply, FilledReply):
        return Decoded(reply.width, reply.height, reply.stored)
    if STATUSES.get(reply.code) != reply.status:
        raise MalformedReply("no decoder refuses an image with this code and status")
    return Refused(reply.error, reply.code, reply.status)
