"""An image decoder that a malicious image has taken over: its replies are not ours."""

import os
import pickle
import time
from pathlib import Path

from captiond.decoding.decoder import DecoderStart
from captiond.decoding.replies import MAX_REPLY_BYTES, encode_reply
from captiond.messages import Decoded
from captiond.processes.channel import BlockingChannel


class Malicious:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self._path, "owned"))


def main(start: DecoderStart) -> None:
    """Answer each image with a bad reply, which the name of its spool file chooses.

    For an image in "closed", close all descriptors and go on.
    """
    channel = BlockingChannel(start.connection)
    bodies = {
        "pickle": pickle.dumps(Malicious(start.settings.data.dir / "owned")),
        "garbage": b"\xff" * 100,
        "too_large": bytes(MAX_REPLY_BYTES + 1),
        "too_large_for_a_slot": encode_reply(Decoded(1, 1, (65535, 65535))),
    }
    while True:
        request = channel.receive()
        if request.image.file == "closed":  # type: ignore[union-attr]
            os.closerange(3, 256)
            time.sleep(600)
        channel.send_bytes(bodies[request.image.file])  # type: ignore[union-attr]
