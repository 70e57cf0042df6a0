"""Multipart bodies as RFC 2046 allows them, and the work that a hostile one may cause."""

import re
import time

import pytest

from captiond.errors import MalformedBody
from captiond.web.uploading.multipart import (
    MAX_BOUNDARIES,
    MAX_PADDING,
    MAX_PARAMETERS,
    MAX_PREAMBLE_BYTES,
    MultipartReader,
    OpeningBoundary,
    parse_parameters,
)
from captiond.web.uploading.partnames import charset_of

HEAD = b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
PART = b"--edge\r\n" + HEAD + b"data\r\n"
WHOLE = PART + b"--edge--\r\n"


class Parts:
    """The content of each part, and its file name."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.filenames: list[str | None] = []

    def begin(self, name: str, filename: str | None) -> None:
        self.contents.append(b"")
        self.filenames.append(filename)

    def data(self, data: memoryview) -> None:
        self.contents[-1] += data

    def end(self) -> None:
        pass


def contents(body: bytes, piece: int = 1 << 20) -> list[bytes]:
    parts = Parts()
    reader = MultipartReader(b"edge", parts)
    for begin in range(0, len(body), piece):
        reader.feed(body[begin : begin + piece])
    reader.close()
    return parts.contents


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        WHOLE,
        b"\r\n" + WHOLE,
        b"This is a preamble.\r\n" + WHOLE,
        b"--edges are no boundary\r\n--edg\r\n" + WHOLE,
        WHOLE + b"This is an epilogue.\r\n" + PART,
        WHOLE[:-2],
        WHOLE.replace(b"--edge\r\n", b"--edge \t\r\n", 1),
    ],
    ids=["plain", "empty line", "preamble", "near", "epilogue", "no last line end", "padding"],
)
def test_what_is_not_a_part_is_ignored(body: bytes, piece: int) -> None:
    assert contents(body, piece) == [b"data"]


@pytest.mark.parametrize(
    "body",
    [
        b"x" * (MAX_PREAMBLE_BYTES + 4096) + b"\r\n" + WHOLE,
        PART,
        PART.replace(b"data", b"\r\n--edgeX" * MAX_BOUNDARIES) + WHOLE,
        PART * 2 * MAX_BOUNDARIES + WHOLE,
        b"--edge\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 6000) for n in range(3)) + HEAD,
        WHOLE.replace(b"filename", b"x;" * MAX_PARAMETERS + b"filename"),
    ],
    ids=[
        "long preamble",
        "no closing boundary",
        "near boundaries",
        "parts",
        "long headers",
        "parameters",
    ],
)
def test_what_costs_too_much_or_is_incomplete_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        contents(body, 4096)


def test_an_empty_body_is_an_empty_form() -> None:
    """The service that captiond replaces reported the missing field for it."""
    assert contents(b"") == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (WHOLE.replace(b"--edge", b"--other"), "no line of it is '--edge'"),
        (b"\xef\xbb\xbf--edge-- but no line", "no line of it is '--edge'"),
        (WHOLE.replace(b"\r\n", b"\n"), "must end with CR LF"),
        (b"x" * 2 * MAX_PREAMBLE_BYTES, "no line of it is '--edge'"),
        (PART, "the closing boundary is missing"),
    ],
    ids=["another", "mark", "LF", "no form", "cut"],
)
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_an_error_says_which_boundary_is_missing(body: bytes, reason: str, piece: int) -> None:
    with pytest.raises(MalformedBody, match=reason):
        contents(body, piece)


@pytest.mark.parametrize(
    ("charset", "sent", "filename"),
    [
        (None, "größe 猫.png".encode(), "größe 猫.png"),
        (None, "größe.png".encode("latin-1"), "größe.png"),
        (b"ISO-8859-1", "größe.png".encode("latin-1"), "größe.png"),
        (b"windows-1251", "кот.png".encode("cp1251"), "кот.png"),
        (b"Shift_JIS", "猫.png".encode("shift_jis"), "猫.png"),
        (b"Shift_JIS", b"\xff.png", "ÿ.png"),
        (b"us-ascii", "猫.png".encode(), "猫.png"),
        (b"unicode_escape", b"a\\n.png", "a\\n.png"),
        (b"iso-8859-99", b"\xe9.png", "é.png"),
    ],
)
def test_a_file_name_is_in_the_charset_of_the_body(
    charset: bytes | None, sent: bytes, filename: str
) -> None:
    parts = Parts()
    parameters = {} if charset is None else {b"charset": charset}
    reader = MultipartReader(b"edge", parts, charset_of(parameters))
    reader.feed(WHOLE.replace(b'"a"', b'"' + sent.replace(b"\\", b"\\\\") + b'"'))
    reader.close()
    assert parts.filenames == [filename]


@pytest.mark.parametrize(
    ("written", "filename"),
    [
        (b"filename*=utf-8''%E7%8C%AB.png", "猫.png"),
        (b"filename*=UTF-8'en'caf%C3%A9.png", "café.png"),
        (b"filename*=\"UTF-8''caf%C3%A9.png\"", "café.png"),
        (b"filename*=windows-1251''%EA%EE%F2.png", "кот.png"),
        (b"filename*=unknown''caf%C3%A9.png", "café.png"),
        (b"filename*=caf%C3%A9.png", "café.png"),
        (b"filename*=iso-8859-1''%E9.png; filename=\"=?utf-8?Q?x?=\"", "é.png"),
        (b"filename*=utf-8''x.png; filename=cat.png", "cat.png"),
        (b'filename*0="a long "; filename*1="name.png"', "a long name.png"),
        (b"filename*1*=%A9.png; filename*0*=utf-8''caf%C3", "café.png"),
        (b"filename*0*=utf-8''caf%C3%A9; filename*1=\" 100%25.png\"", "café 100%25.png"),
        (b'filename="=?utf-8?B?54yrLnBuZw==?="', "猫.png"),
        (b'filename="=?UTF-8?Q?caf=C3=A9_1.png?="', "café 1.png"),
        (b'filename="=?iso-8859-1?q?caf=E9?= =?us-ascii?B?LnBuZw==?="', "café.png"),
        (b'filename="=?utf-8?B?x?="', "x"),
        (b'filename="=?x.png"', "=?x.png"),
        (b"filename=\"a; filename*=utf-8''b.png\"", "a; filename*=utf-8''b.png"),
        (b"title=\"a; filename*=utf-8''b.png\"", None),
        (b"filenames*=utf-8''b.png", None),
    ],
)
def test_a_file_name_in_the_form_of_mail(written: bytes, filename: str | None) -> None:
    parts = Parts()
    reader = MultipartReader(b"edge", parts)
    reader.feed(WHOLE.replace(b'filename="a"', written))
    reader.close()
    assert parts.filenames == [filename]


def test_a_preamble_may_arrive_byte_by_byte() -> None:
    """Eight times as many pieces take about eight times as long, not 64 times."""
    few, many = (min(seconds_for(size) for _ in range(3)) for size in (2_000, 16_000))
    assert many / few < 24


def seconds_for(preamble: int) -> float:
    """Return the processor time of a preamble that arrives in so many pieces."""
    opening, started = OpeningBoundary(b"edge"), time.process_time()
    for _ in range(preamble):
        opening.feed(b"a")
    return time.process_time() - started


def test_the_padding_of_a_boundary_is_bounded() -> None:
    for size, found in ((MAX_PADDING, True), (MAX_PADDING + 1, False)):
        opening = OpeningBoundary(b"edge")
        line = b"preamble\r\n--edge" + b" " * size + b"\r\n"
        pieces = [opening.feed(line[at : at + 1]) for at in range(len(line))]
        assert pieces[-1] == (b"--edge\r\n" if found else b"")


def test_a_header_may_have_some_parameters() -> None:
    header = b"multipart/form-data" + b"; a=b" * MAX_PARAMETERS
    assert parse_parameters(header) == (b"multipart/form-data", {b"a": b"b"})
    with pytest.raises(MalformedBody, match=re.escape(f"more than {MAX_PARAMETERS}")):
        parse_parameters(header + b";")
