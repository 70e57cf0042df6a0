"""A spool file in the making: images one behind the other, some of them taken back."""

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.errors import SpoolError
from captiond.jobs import SpooledImage
from captiond.spool import HEAD_BYTES, IOV_MAX, FolderSpool, after, remove

PIECES = st.lists(st.binary(min_size=1, max_size=200), max_size=6)
STEPS = st.lists(st.tuples(PIECES, st.booleans(), st.booleans()), max_size=8)


@given(STEPS)
def test_what_is_kept_stands_where_it_is_told(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[bytes], bool, bool]]
) -> None:
    """Each step is an image in pieces; whether it is flushed on its way, and whether dropped."""
    folder = tmp_path_factory.mktemp("spool")
    writer = FolderSpool(folder).writer("w")
    kept: list[tuple[bytes, SpooledImage]] = []
    for pieces, flushed, dropped in steps:
        writer.begin()
        for piece in pieces:
            writer.write(memoryview(piece))
            if flushed:
                writer.flush()
        content = b"".join(pieces)
        assert (writer.size, writer.head) == (len(content), content[:HEAD_BYTES])
        if dropped:
            writer.drop()
        else:
            kept.append((content, writer.end()))
    writer.commit(durable=False)
    whole = (folder / writer.name).read_bytes()
    assert whole == b"".join(content for content, _ in kept)
    for content, image in kept:
        assert whole[image.offset : image.offset + image.size] == content
        assert image.sha256 == hashlib.sha256(content).hexdigest()


def test_more_pieces_than_one_call_takes(tmp_path: Path) -> None:
    writer = FolderSpool(tmp_path).writer("w")
    content = bytes(n % 251 for n in range(3 * IOV_MAX))
    for number in range(len(content)):
        writer.write(memoryview(content)[number : number + 1])
    assert writer.unwritten >= len(content)
    writer.flush()
    assert writer.unwritten == 0
    writer.commit(durable=True)
    assert (tmp_path / writer.name).read_bytes() == content


def test_what_a_short_write_leaves() -> None:
    parts = [memoryview(b"abc"), memoryview(b"de"), memoryview(b"f")]
    left = [b"".join(after(parts, count)) for count in range(7)]
    assert left == [b"abcdef"[count:] for count in range(7)]


def test_a_discarded_file_is_gone(tmp_path: Path) -> None:
    writer = FolderSpool(tmp_path).writer("w")
    writer.write(memoryview(b"x"))
    writer.flush()
    assert list(tmp_path.iterdir())
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_many_small_pieces_count_as_what_they_take(tmp_path: Path) -> None:
    writer = FolderSpool(tmp_path).writer("w")
    for _ in range(1000):
        writer.write(memoryview(b"x"))
    assert writer.unwritten > 100_000
    writer.flush()
    assert writer.unwritten == 0
    writer.discard()


def test_a_sweep_leaves_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    for name in ("a-1", "a-2.part", "b-1"):
        (tmp_path / name).write_bytes(b"x")
    spool = FolderSpool(tmp_path)
    assert set(spool.written_before(time.time() + 60)) == {"a-1", "a-2.part", "b-1"}
    assert spool.sizes() == {"a-1": 1, "a-2.part": 1, "b-1": 1}
    assert spool.total_size() == 3
    assert FolderSpool(tmp_path / "missing").total_size() == 0
    assert spool.sweep({"a-1"}) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a-1", "lost+found"}


def test_a_file_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    remove([folder, tmp_path / "gone", file])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_descriptor_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux has closed it, also where close(2) tells of an error."""
    closed: list[int] = []

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        raise OSError(errno.EIO, "no")

    writer = FolderSpool(tmp_path).writer("w")
    writer.write(memoryview(b"x"))
    writer.flush()
    with monkeypatch.context() as patch:
        patch.setattr("os.close", close)
        with pytest.raises(OSError, match="no"):
            writer.commit(durable=False)
        writer.discard()
    assert len(closed) == 1
    os.close(closed[0])


def test_an_image_is_read_back(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path)
    writer = spool.writer("w")
    images = []
    for content in (b"first", b"second"):
        writer.begin()
        writer.write(memoryview(content))
        images.append(writer.end())
    writer.commit(durable=True)
    assert [spool.read(image) for image in images] == [b"first", b"second"]


@pytest.mark.parametrize("length", [None, 0, 8])
def test_a_missing_or_short_file_is_an_error_of_the_storage(
    tmp_path: Path, length: int | None
) -> None:
    """The client's image was whole when it came, so another attempt may succeed."""
    if length is not None:
        (tmp_path / "w-1").write_bytes(b"x" * length)
    with pytest.raises(SpoolError):
        FolderSpool(tmp_path).read(SpooledImage("w-1", 0, 9, "sha"))
