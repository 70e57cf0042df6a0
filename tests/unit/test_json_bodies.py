"""JSON bodies in chunks of any size: which images they have, what else, and what is refused."""

import base64
import json
import random
import re
import time
from typing import Any

import pytest

from captiond.errors import BodyTooLarge, CaptiondError, ImageError, MalformedBody
from captiond.web.uploading.jsonbody import ImageReference, JsonReader
from captiond.web.uploading.jsonscanner import EACH, MAX_DEPTH

PLACES = (("image",), ("images", EACH), ("chat", EACH, "part", "url"))
DATA = random.Random(2).randbytes(20_000)
TEXT = base64.b64encode(DATA).decode()
MAX_DOCUMENT, MAX_VALUES = 64 * 1024, 4000


class Images:
    """The content of each image, or its error."""

    def __init__(self) -> None:
        self.found: list[bytes | ImageError] = []

    def begin(self, name: str, filename: str | None) -> None:
        self.found.append(b"")

    def data(self, data: memoryview) -> None:
        found = self.found[-1]
        assert isinstance(found, bytes)
        self.found[-1] = found + data

    def refuse(self, error: ImageError, content: bytes) -> None:
        self.found[-1] = error

    def end(self) -> None:
        pass


def read(body: bytes, piece: int = 1 << 20) -> tuple[dict[str, Any], list[bytes | ImageError]]:
    images = Images()
    reader = JsonReader(PLACES, "image", images, max_document=MAX_DOCUMENT, max_values=MAX_VALUES)
    for at in range(0, len(body), piece):
        reader.feed(body[at : at + piece])
    reader.close()
    return reader.document, images.found


@pytest.mark.parametrize("piece", [1, 2, 7, 4096, 1 << 20])
def test_images_are_replaced_wherever_they_are(piece: int) -> None:
    document = {
        "beams": [1, {'a"b\\': None, "image": "not this one"}, [], ["]"]],
        "image": TEXT,
        "chat": [{"part": {"text": "x{"}}, {"part": {"url": "data:image/png;base64," + TEXT}}],
        "images": ["", [TEXT[:8]], TEXT],
        "last": '\\"\u00e9\U0001f600',
    }
    for ascii_only in (True, False):
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        found, images = read(body, piece)
        assert images == [DATA, DATA, b"", DATA]
        assert found == document | {
            "image": ImageReference(0, "image"),
            "chat": [
                {"part": {"text": "x{"}},
                {"part": {"url": ImageReference(1, "chat[1].part.url")}},
            ],
            "images": [ImageReference(2, "images[0]"), [TEXT[:8]], ImageReference(3, "images[2]")],
        }


@pytest.mark.parametrize("piece", [1, 3, 4096, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("/", "\\/"),
        TEXT.replace("+", "\\u002b").replace("/", "\\u002F"),
        "".join(f"\\u{ord(letter):04x}" for letter in TEXT),
        re.sub("(.{76})", r"\1\\r\\n", TEXT),
        re.sub("(.{76})", "\\1\n", TEXT),
        "DATA:Image/JPEG;name=a.jpg;base64," + TEXT,
        "data:;base64," + TEXT,
        "data:image\\/png;charset=utf-8;base64,\\n" + TEXT,
    ],
    ids=["slashes", "some", "all", "lines", "raw lines", "upper case", "no type", "escaped head"],
)
def test_escapes_and_data_urls(text: str, piece: int) -> None:
    _, images = read(b'{"image": "' + text.encode() + b'"}', piece)
    assert images == [DATA]


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("cat.jpg", "not_base64", "image: the text is not base64 at character 3"),
        (TEXT + "!" + TEXT, "not_base64", f"at character {len(TEXT)}"),
        ("data:image/png;base64,QQ!", "not_base64", "at character 24"),
        ("data:image/png,QQ", "not_base64", ";base64 is missing"),
        ("data:image/png;base64", "not_base64", "no comma"),
        ("data:" + "x" * 9000, "not_base64", "its head is too long"),
        ("data:text/html;base64,QQ==", "not_an_image", "the type text/html"),
        ("https://example.org/cat.jpg", "url_refused", "URLs are never fetched"),
        ("  file:///etc/passwd", "url_refused", "URLs are never fetched"),
        ("QUJDQ", "not_base64", "cut short at character 5"),
        ("\\u20acQUJD", "not_base64", "at character 0"),
        ('QUJD\\"QUJD\\\\', "not_base64", "at character 4"),
    ],
)
def test_a_text_that_is_no_image_spoils_no_other(
    text: str, code: str, reason: str, piece: int
) -> None:
    body = f'{{"images": ["{TEXT}"], "image": "{text}", "n": 1}}'.encode()
    document, (first, second) = read(body, piece)
    assert first == DATA
    assert isinstance(second, ImageError)
    assert second.code == code
    assert reason in str(second)
    assert str(second).startswith("image: ")
    assert document["n"] == 1


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"\xef\xbb\xbf",
        b"[]",
        b'"text"',
        b"--edge\r\nContent-Disposition: form-data",
        b'{"image": "QUJD"',
        b'{"image": "QUJD',
        b'{"image": "QUJD"]',
        b'{"image": "QUJD"}}',
        b'{"image": "QUJD"} {"image": "QUJD"}',
        b'{"image": "QUJD"} x',
        b'{"image": "QUJD",}',
        b'{"image" "QUJD"}',
        b"{'image': 'QUJD'}",
        b'{"image": "QUJD", "image": "QUJD"}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"image": "QU\\qD"}',
        b'{"a": "\\q"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": %s}' % (b"9" * 5000),
        b'{"a": "\xff"}',
        b'{"\xff": 1}',
        b'{"a": "\\ud83d"}',
        b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        '{"image": "QUJD"}'.encode("utf-16"),
        '{"image": "QUJD"}'.encode("utf-16-le"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, piece: int) -> None:
    with pytest.raises(MalformedBody, match=r"^malformed JSON body: "):
        read(body, piece)


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_what_precedes_and_follows_the_object_may_be_white_space(piece: int) -> None:
    body = b'\xef\xbb\xbf \r\n{"image": "QUJD"}\r\n\t '
    assert read(body, piece)[1] == [b"ABC"]
    depth = MAX_DEPTH - 1
    nested = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
    assert read(nested, piece)[1] == []


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"file": "' + TEXT.encode() * 4 + b'"}', "'file' is too long"),
        (b'{"images": "' + TEXT.encode() * 4 + b'"}', "'images' is too long"),
        (b'{"images": [{"data": "' + TEXT.encode() * 4 + b'"}]}', "'images[0].data' is too long"),
        (b"{" + b" " * MAX_DOCUMENT + b"}", "belong in chat[0].part.url or image or images[0]"),
        (b'{"a": "' + b"\\n" * MAX_DOCUMENT + b'"}', "'a' is too long"),
        (b'{"a": [' + b"1," * MAX_VALUES + b"1]}", "more than 4000 values"),
        (b'{"a": [' + b"{}," * (MAX_VALUES // 2) + b"1]}", "more than 4000 values"),
    ],
)
def test_what_is_beside_the_images_is_bounded(body: bytes, what: str) -> None:
    with pytest.raises(BodyTooLarge, match=re.escape(what)):
        read(body, 1000)


def test_a_thousand_images() -> None:
    texts = [base64.b64encode(b"%d" % number).decode() for number in range(1000)]
    document, images = read(json.dumps({"images": texts}).encode(), 4096)
    assert images == [b"%d" % number for number in range(1000)]
    assert [each.position for each in document["images"]] == list(range(1000))


def test_a_body_that_arrives_byte_by_byte_takes_time_in_proportion_to_its_length() -> None:
    few, many = (min(seconds_for(size) for _ in range(3)) for size in (4_000, 32_000))
    assert many / few < 24


def seconds_for(size: int) -> float:
    """Return the processor time of a body whose image and whose options have so many bytes."""
    body = b'{"image": "' + b"\\n" * (size // 2) + b'", "a": "' + b'\\"' * (size // 2) + b'"}'
    started = time.process_time()
    read(body, 1)
    return time.process_time() - started


def test_any_bytes_are_either_read_or_refused() -> None:
    """Whatever a body has, the outcome is the same for all sizes of chunks."""
    random_ = random.Random(3)
    alphabet = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"u0041", b" ", b"1", b"QUJD"]
    alphabet += [b'"image":', b'"images":[', b'"a"', b"null", b"\xff", b"="]
    for _ in range(3000):
        body = b'{"image":' + b"".join(random_.choices(alphabet, k=random_.randint(0, 12)))
        body += random_.choice([b"", b"}", b'"}', b"]}"])
        assert len({outcome(body, piece) for piece in (1, 2, 1 << 20)}) == 1


def outcome(body: bytes, piece: int) -> str:
    try:
        document, images = read(body, piece)
    except CaptiondError as error:
        return error.code
    assert json.loads(body.decode("latin-1"), strict=False)
    return repr((document, [repr(image) for image in images]))
