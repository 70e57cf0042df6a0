"""The model process's side of an image decoder: what both say to each other for one image."""

import asyncio
from dataclasses import dataclass

from captiond.decoding.budget import MemoryBudget
from captiond.decoding.childoutput import DecoderLog
from captiond.decoding.replies import (
    MAX_REPLY_BYTES,
    MalformedReply,
    MemoryNeeded,
    decode_reply,
)
from captiond.errors import TooMuchMemory
from captiond.jobs import Refused
from captiond.messages import Decode, Decoded, Proceed
from captiond.processes.children import ChildProcess

# A decoder may take its processor seconds this many times, and some more, of real time. The machine
# may be busy.
STUCK_FACTOR, STUCK_SECONDS = 4, 30


@dataclass(frozen=True)
class DecoderLimits:
    """What the decoders of a pool share: processor seconds for an image, memory, and the log."""

    seconds: float
    budget: MemoryBudget
    log: DecoderLog


async def exchange(
    decoder: ChildProcess, request: Decode, limits: DecoderLimits
) -> Decoded | Refused:
    """Have an image decoded. The memory that it takes is lent from the budget.

    Raises:
        ChannelClosed: the decoder has ended.
        MalformedReply, MessageTooLarge: it does not say what a decoder of ours says.
        TimeoutError: it takes too long. The time that it waits for memory does not count.
    """
    decoder.channel.send(request)
    reply = await receive_reply(decoder, limits.seconds)
    if not isinstance(reply, MemoryNeeded):
        return reply
    try:
        async with limits.budget.lent(reply.bytes):
            return await proceed(decoder, limits, granted=True)
    except TooMuchMemory as error:
        await proceed(decoder, limits, granted=False)
        return Refused.of(error)


async def proceed(
    decoder: ChildProcess, limits: DecoderLimits, *, granted: bool
) -> Decoded | Refused:
    """Let a decoder go on that waits for memory, and return its last reply."""
    decoder.channel.send(Proceed(granted))
    reply = await receive_reply(decoder, limits.seconds)
    if isinstance(reply, MemoryNeeded):
        raise MalformedReply("a decoder asks for memory only once for an image")
    return reply


async def receive_reply(decoder: ChildProcess, seconds: float) -> Decoded | Refused | MemoryNeeded:
    async with asyncio.timeout(STUCK_FACTOR * seconds + STUCK_SECONDS):
        return decode_reply(await decoder.channel.receive_bytes(MAX_REPLY_BYTES))
