"""A decoder: a process of the pool, which decodes one image after the other under limits.

It holds nothing worth keeping: whatever kills it costs the one image that it had in hand.
"""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from captiond.config import ImageSettings
from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.slots import Slots
from captiond.errors import ImageError, TooManyPixels
from captiond.jobs import Refused
from captiond.messages import Decode, Decoded, Source
from captiond.processes.channel import BlockingChannel, ChannelClosed
from captiond.processes.start import Start


@dataclass(frozen=True)
class DecoderStart(Start):
    slots: Slots


def main(start: DecoderStart) -> None:
    """The process's whole life: until its model process closes the channel."""
    settings = start.settings.images
    set_up_pillow(settings)
    channel = BlockingChannel(start.connection)
    most = settings.decoder_memory + start.slots.bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        while True:
            request = channel.receive()
            assert isinstance(request, Decode)
            channel.send(decode_into_slot(request, start.slots, settings))
    except ChannelClosed:
        return


def decode_into_slot(request: Decode, slots: Slots, settings: ImageSettings) -> Decoded | Refused:
    try:
        with processor_seconds(settings.decode_seconds):
            file = BytesIO(read(request.source))
            pixels, (width, height) = decode(file, slots.geometry, settings)
    except ImageError as error:
        return Refused.of(error)
    except MemoryError:
        return Refused.of(TooManyPixels("the image takes more memory to decode than it may"))
    except OSError as error:
        return Refused(f"the uploaded file cannot be read: {error.strerror}", "spool_error", 500)
    slots.write(request.slot, pixels)
    return Decoded(width, height)


def read(source: Source) -> bytes:
    """The image's bytes.

    Raises:
        OSError: the file is gone, or cannot be read.
    """
    with Path(source.path).open("rb") as file:
        return os.pread(file.fileno(), source.size, source.offset)


@contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """Let SIGPROF end this process if what stands in the block takes more processor time.

    Only the kernel can stop a decoder that is deep in a C library.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
