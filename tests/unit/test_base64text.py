"""Base64 that arrives in pieces, as clients write it, and what is no base64."""

import base64
import random

import pytest

from captiond.web.uploading.base64text import Base64Decoder, NotBase64Text

DATA = random.Random(1).randbytes(10_000)
TEXT = base64.b64encode(DATA)


def decoded(text: bytes, piece: int) -> bytes:
    decoder = Base64Decoder()
    found = [decoder.feed(text[at : at + piece]) for at in range(0, len(text), piece)]
    return b"".join(found) + decoder.end()


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 64, 4096, 1 << 20])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 9_998, 9_999, 10_000])
def test_all_styles_of_base64_are_decoded(length: int, piece: int) -> None:
    data = DATA[:length]
    plain = base64.b64encode(data)
    for text in (
        plain,
        plain.rstrip(b"="),
        plain.rstrip(b"=") + (b"=" if plain.endswith(b"==") else b""),
        base64.urlsafe_b64encode(data),
        base64.encodebytes(data),
        base64.encodebytes(data).replace(b"\n", b"\r\n"),
        b" \t" + plain + b"\n\n",
    ):
        assert decoded(text, piece) == data


@pytest.mark.parametrize("piece", [1, 3, 4, 7, 4096])
@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (TEXT[:5000] + b"!" + TEXT[5000:], 5000),
        (TEXT[:5001] + b"!" + TEXT[5001:], 5001),
        (b"\n" + TEXT[:5001] + b"." + TEXT[5001:], 5002),
        (b"cat.jpg", 3),
        (b"QUJD\xc3\xa9", 4),
        (b"QQ==QUJD", 4),
        (b"QQ=\n=\nQUJD", 6),
        (b"QQ=QUJD", 3),
        (b"=QUJ", 1),
        (b"QUJDQ", 5),
        (b"Q", 1),
        (b"QUJD=", 5),
        (b"QQ===", 5),
        (b"====", 4),
    ],
)
def test_an_error_says_where_it_is(text: bytes, offset: int, piece: int) -> None:
    with pytest.raises(NotBase64Text) as caught:
        decoded(text, piece)
    assert caught.value.offset == offset
