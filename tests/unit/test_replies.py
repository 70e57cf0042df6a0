"""Replies of image decoders: a decoder that was taken over cannot take the model process over."""

import asyncio
import multiprocessing
import os
import pickle
import random
from pathlib import Path

import msgspec
import pytest

from captiond.decoding.replies import (
    MAX_ERROR_CHARACTERS,
    MAX_REPLY_BYTES,
    MalformedReply,
    decode_reply,
    encode_reply,
)
from captiond.errors import CorruptImage, SpoolError, TooManyPixels
from captiond.jobs import Refused
from captiond.messages import Decoded
from captiond.processes.channel import LENGTH, Channel, MessageTooLarge
from tests.patience import PATIENCE

FILLED: dict[str, object] = {"kind": "filled", "width": 1, "height": 1, "stored": (1, 1)}


class Malicious:
    """A pickle that touches a file when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("owned"),))


@pytest.mark.parametrize(
    "reply",
    [
        Decoded(1, 65535, (384, 384)),
        Refused.of(CorruptImage("no — header")),
        Refused.of(TooManyPixels("60 MP")),
        Refused.of(SpoolError("the file is missing")),
    ],
)
def test_a_reply_arrives_as_it_was_sent(reply: Decoded | Refused) -> None:
    assert decode_reply(encode_reply(reply)) == reply
    assert decode_reply(msgspec.msgpack.encode(FILLED)) == Decoded(1, 1, (1, 1))


@pytest.mark.parametrize("error", ["x" * 10**6, "\U0001f4f7" * 10**5, "\udcff bytes"])
def test_any_error_message_fits(error: str) -> None:
    body = encode_reply(Refused(error, "corrupt_image"))
    assert len(body) <= MAX_REPLY_BYTES
    decoded = decode_reply(body)
    assert isinstance(decoded, Refused)
    assert len(decoded.error) <= MAX_ERROR_CHARACTERS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"garbage",
        b"\x93" * 5000,
        pickle.dumps(Malicious()),
        pickle.dumps(Decoded(1, 1, (1, 1))),
        msgspec.msgpack.encode({"kind": "filled", "width": 1}),
        msgspec.msgpack.encode(FILLED | {"width": "1"}),
        msgspec.msgpack.encode(FILLED | {"width": 0}),
        msgspec.msgpack.encode(FILLED | {"height": 2**40}),
        msgspec.msgpack.encode(FILLED | {"stored": (1, 0)}),
        msgspec.msgpack.encode(FILLED | {"stored": (1,)}),
        msgspec.msgpack.encode(FILLED | {"stored": (1, 1, 1)}),
        msgspec.msgpack.encode(FILLED | {"more": 1}),
        msgspec.msgpack.encode(FILLED | {"kind": "other"}),
        msgspec.msgpack.encode({"width": 1, "height": 1, "stored": (1, 1)}),
        msgspec.msgpack.encode({"kind": "refused", "error": "e", "code": "A b", "status": 400}),
        msgspec.msgpack.encode({"kind": "refused", "error": "e", "code": "c", "status": 200}),
        encode_reply(Refused("a label of metrics that nobody knows", "aaaa", 400)),
        encode_reply(Refused("as if captiond had failed", "corrupt_image", 500)),
        encode_reply(Decoded(1, 1, (1, 1))) + b"more",
    ],
)
def test_anything_else_is_malformed(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MalformedReply):
        decode_reply(body)
    assert not (tmp_path / "owned").exists()


def test_random_bytes_are_malformed() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        with pytest.raises(MalformedReply):
            decode_reply(rng.randbytes(rng.randint(0, 60)))


@pytest.mark.anyio
async def test_a_reply_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    ours, theirs = multiprocessing.Pipe()
    channel = await Channel.open(ours)
    os.write(theirs.fileno(), LENGTH.pack(MAX_REPLY_BYTES + 1))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(MessageTooLarge):
            await channel.receive_bytes(MAX_REPLY_BYTES)
    channel.close()
    theirs.close()
