"""An image decoder: a process that decodes one image after the other, with limits, in a box.

It has no state. Whatever kills it affects only the image that it was decoding.
"""

import os
import warnings
from dataclasses import dataclass
from io import BytesIO

from captiond.decoding.budget import ALLOWANCE, standing_bytes
from captiond.decoding.childoutput import PrintedOutput
from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.handover import Handover
from captiond.decoding.limits import MemoryLimit, limit_files, out_of_memory, processor_seconds
from captiond.decoding.replies import MemoryNeeded, encode_reply
from captiond.decoding.slots import Slots
from captiond.errors import ImageError, SpoolError
from captiond.jobs import Refused
from captiond.messages import Decode, Decoded, Proceed
from captiond.processes.box import enter_box
from captiond.processes.channel import BlockingChannel, ChannelClosed
from captiond.processes.start import Start
from captiond.settings.config import Settings
from captiond.spool import FolderSpool

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


@dataclass(frozen=True)
class DecoderStart(Start):
    """The start of an image decoder, with what it shares with its model process."""

    slots: Slots
    output: PrintedOutput
    handover: Handover


def main(start: DecoderStart) -> None:
    """Decode images until the model process closes the channel."""
    capture_output(start.output)
    set_up_pillow(start.settings.images)
    channel = BlockingChannel(start.connection)
    decoder = ImageDecoder(start.settings, start.slots, start.handover, channel)
    limit_files()
    enter_box(start.settings.spool)
    try:
        while True:
            decoder.decode_next()
    except ChannelClosed:
        return


def capture_output(output: PrintedOutput) -> None:
    """Let nothing that this process prints reach the log. Warnings of Python are of no use."""
    warnings.simplefilter("ignore")
    for descriptor in (STANDARD_OUTPUT, STANDARD_ERROR):
        os.dup2(output.descriptor, descriptor)


class ImageDecoder:
    """Decodes the images that its model process asks for."""

    def __init__(
        self, settings: Settings, slots: Slots, handover: Handover, channel: BlockingChannel
    ) -> None:
        self._settings = settings.images
        self._spool = FolderSpool(settings.spool)
        self._slots = slots
        self._handover = handover
        self._channel = channel
        self._memory = MemoryLimit(
            standing=standing_bytes(settings.limits.file_bytes),
            most=settings.images.decoder_memory,
            shared=slots.bytes,
        )

    def decode_next(self) -> None:
        """Wait for an image, decode it, and reply.

        Raises:
            ChannelClosed: the model process has exited.
        """
        request = self._channel.receive()
        assert isinstance(request, Decode)
        self._memory.begin()
        self._channel.send_bytes(encode_reply(self._decode(request)))

    def _decode(self, request: Decode) -> Decoded | Refused:
        """Decode an image into its slot; return its size, or why it cannot be decoded."""
        try:
            with processor_seconds(self._settings.decode_seconds):
                file = BytesIO(self._read(request))
                geometry = self._slots.geometry
                pixels, size = decode(file, geometry, self._settings, self._reserve)
        except (ImageError, SpoolError) as error:
            return Refused.of(error)
        except MemoryError:
            return Refused.of(out_of_memory())
        self._slots.write(request.slot, pixels)
        height, width, _ = pixels.shape
        return Decoded(*size, (width, height))

    def _read(self, request: Decode) -> bytes:
        """Return the bytes of an image. Raises SpoolError."""
        if request.handed_over:
            return self._handover.read(request.image.size)
        return self._spool.read(request.image)

    def _reserve(self, needed: int) -> None:
        """Wait until the image may take so much memory.

        Raises:
            TooMuchMemory: no image may.
        """
        if needed <= ALLOWANCE:
            return
        self._memory.extend(needed)
        self._channel.send_bytes(encode_reply(MemoryNeeded(needed)))
        answer = self._channel.receive()
        assert isinstance(answer, Proceed)
        if not answer.granted:
            raise out_of_memory()
