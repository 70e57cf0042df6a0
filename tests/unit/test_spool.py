"""A spool file in the making: images one behind the other, some of them taken back."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.spool import IOV_MAX, SpooledImage, SpoolWriter, after

PIECES = st.lists(st.binary(min_size=1, max_size=200), max_size=6)
STEPS = st.lists(st.tuples(PIECES, st.booleans(), st.booleans()), max_size=8)


@given(STEPS)
def test_what_is_kept_stands_where_it_is_told(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[bytes], bool, bool]]
) -> None:
    """Each step is an image in pieces; whether it is flushed on its way, and whether dropped."""
    writer = SpoolWriter(tmp_path_factory.mktemp("spool"), "w")
    kept: list[tuple[bytes, SpooledImage]] = []
    for pieces, flushed, dropped in steps:
        writer.begin()
        for piece in pieces:
            writer.write(memoryview(piece))
            if flushed:
                writer.flush()
        content = b"".join(pieces)
        assert (writer.size, writer.head) == (len(content), content[: SpoolWriter.HEAD_BYTES])
        if dropped:
            writer.drop()
        else:
            kept.append((content, writer.end()))
    whole = writer.commit(durable=False).read_bytes()
    assert whole == b"".join(content for content, _ in kept)
    for content, image in kept:
        assert whole[image.offset : image.offset + image.size] == content
        assert image.sha256 == hashlib.sha256(content).hexdigest()


def test_more_pieces_than_one_call_takes(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w")
    content = bytes(n % 251 for n in range(3 * IOV_MAX))
    for number in range(len(content)):
        writer.write(memoryview(content)[number : number + 1])
    assert writer.unwritten >= len(content)
    writer.flush()
    assert writer.unwritten == 0
    assert writer.commit(durable=True).read_bytes() == content


def test_what_a_short_write_leaves() -> None:
    parts = [memoryview(b"abc"), memoryview(b"de"), memoryview(b"f")]
    left = [b"".join(after(parts, count)) for count in range(7)]
    assert left == [b"abcdef"[count:] for count in range(7)]


def test_a_discarded_file_is_gone(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w")
    writer.write(memoryview(b"x"))
    writer.flush()
    assert list(tmp_path.iterdir())
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_many_small_pieces_count_as_what_they_take(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w")
    for _ in range(1000):
        writer.write(memoryview(b"x"))
    assert writer.unwritten > 100_000
    writer.flush()
    assert writer.unwritten == 0
    writer.discard()
