"""An image decoder: a process that decodes one image after the other, with limits.

It has no state. Whatever kills it affects only the image that it was decoding.
"""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from captiond.config import ImageSettings
from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.replies import encode_reply
from captiond.decoding.slots import Slots
from captiond.errors import ImageError, SpoolError, TooManyPixels
from captiond.jobs import Refused
from captiond.messages import Decode, Decoded
from captiond.processes.channel import BlockingChannel, ChannelClosed
from captiond.processes.start import Start
from captiond.spool import Spool, open_spool


@dataclass(frozen=True)
class DecoderStart(Start):
    """The start of an image decoder, with the slots that it shares with its model process."""

    slots: Slots


def main(start: DecoderStart) -> None:
    """Decode images until the model process closes the channel."""
    settings = start.settings.images
    set_up_pillow(settings)
    spool = open_spool(start.settings)
    channel = BlockingChannel(start.connection)
    most = settings.decoder_memory + start.slots.bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        while True:
            request = channel.receive()
            assert isinstance(request, Decode)
            reply = decode_into_slot(request, spool, start.slots, settings)
            channel.send_bytes(encode_reply(reply))
    except ChannelClosed:
        return


def decode_into_slot(
    request: Decode, spool: Spool, slots: Slots, settings: ImageSettings
) -> Decoded | Refused:
    """Decode an image; return its size, or why it cannot be decoded."""
    try:
        with processor_seconds(settings.decode_seconds):
            file = BytesIO(spool.read(request.image))
            pixels, (width, height) = decode(file, slots.geometry, settings)
    except (ImageError, SpoolError) as error:
        return Refused.of(error)
    except MemoryError:
        return Refused.of(TooManyPixels("decoding the image takes more memory than is allowed"))
    slots.write(request.slot, pixels)
    return Decoded(width, height)


@contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """Let SIGPROF end this process if the block takes more processor time than that.

    Only the kernel can stop code within a C library.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
