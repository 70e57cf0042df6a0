"""The spool, in a folder and in a bucket: what is written, read, listed and removed."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captiond.errors import SpoolError
from captiond.jobs import SpooledImage
from captiond.spool import HEAD_BYTES, FolderSpool, is_object, remove
from captiond.spool.staging import IOV_MAX, after
from tests.s3server import S3Server
from tests.spools import BUCKET, FOLDER, Home, home_in, stored

pytestmark = pytest.mark.anyio
PIECES = st.lists(st.binary(min_size=1, max_size=200), max_size=6)
STEPS = st.lists(st.tuples(PIECES, st.booleans(), st.booleans()), max_size=8)


@pytest.fixture(params=[FOLDER, BUCKET])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """A spool of each kind."""
    if request.param == FOLDER:
        yield home_in(tmp_path)
        return
    server: S3Server = request.getfixturevalue("s3")
    yield home_in(tmp_path, server)
    server.clear()


@given(steps=STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
async def test_what_is_kept_stands_where_it_is_told(
    home: Home, steps: list[tuple[list[bytes], bool, bool]]
) -> None:
    """Each step is an image in pieces; whether it is flushed on its way, and whether dropped."""
    writer = home.spool.writer("w", durable=True)
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
    await writer.commit()
    whole = b"".join(content for content, _ in kept)
    assert home.spool.sizes()[writer.name] == len(whole)
    for content, image in kept:
        assert whole[image.offset : image.offset + image.size] == content
        assert home.spool.read(image) == content
        assert image.sha256 == hashlib.sha256(content).hexdigest()
    home.spool.remove([writer.name])
    assert home.names() == set()


async def test_more_pieces_than_one_call_takes(home: Home) -> None:
    writer = home.spool.writer("w", durable=True)
    content = bytes(n % 251 for n in range(3 * IOV_MAX))
    for number in range(len(content)):
        writer.write(memoryview(content)[number : number + 1])
    assert writer.unwritten >= len(content)
    writer.flush()
    assert writer.unwritten == 0
    image = writer.end()
    await writer.commit()
    assert home.spool.read(image) == content


def test_what_a_short_write_leaves() -> None:
    parts = [memoryview(b"abc"), memoryview(b"de"), memoryview(b"f")]
    left = [b"".join(after(parts, count)) for count in range(7)]
    assert left == [b"abcdef"[count:] for count in range(7)]


@pytest.mark.parametrize("committed", [False, True])
async def test_a_discarded_file_is_gone(home: Home, *, committed: bool) -> None:
    writer = home.spool.writer("w", durable=True)
    writer.write(memoryview(b"x"))
    writer.flush()
    if committed:
        await writer.commit()
        assert home.names() == {writer.name}
    writer.discard()
    assert home.names() == set()
    assert not list(home.folder.iterdir())


def test_many_small_pieces_count_as_what_they_take(home: Home) -> None:
    writer = home.spool.writer("w", durable=True)
    for _ in range(1000):
        writer.write(memoryview(b"x"))
    assert writer.unwritten > 100_000
    writer.flush()
    assert writer.unwritten == 0
    writer.discard()


async def test_files_are_removed_by_their_owners(home: Home) -> None:
    """A name that begins like another one belongs to another owner."""
    images = {
        owner: (await stored(home.spool, b"content", owner=owner))[0].file
        for owner in ("web0-a", "web0-ab", "web1-a")
    }
    (needed,) = await stored(home.spool, b"needed", owner="web0-a")
    assert home.spool.sweep({needed.file}, owner="web0-a") == 1
    assert home.names() == {needed.file, images["web0-ab"], images["web1-a"]}
    home.spool.remove([images["web1-a"], "web9/gone", "gone"])
    assert home.names() == {needed.file, images["web0-ab"]}
    assert home.spool.sweep(set(), owner="web9") == 0


async def test_what_is_stored_is_measured(home: Home) -> None:
    (first,) = await stored(home.spool, b"12345")
    (second,) = await stored(home.spool, b"123", owner="web1-b")
    assert home.spool.sizes() == {first.file: 5, second.file: 3}
    assert home.spool.total_size() == 8
    assert set(home.spool.written_before(time.time() + 60)) == {first.file, second.file}
    assert home.spool.written_before(time.time() - 60) == []
    assert home.spool.place(first.file).endswith(first.file)
    assert home.spool.disk_space().free > 0


async def test_an_image_is_read_back(home: Home) -> None:
    images = await stored(home.spool, b"first", b"", b"second")
    assert [home.spool.read(image) for image in images] == [b"first", b"", b"second"]


@pytest.mark.parametrize("length", [None, 1, 8])
async def test_a_missing_or_short_file_is_an_error_of_the_storage(
    home: Home, length: int | None
) -> None:
    """The client's image was whole when it came, so another attempt may succeed."""
    (image,) = await stored(home.spool, b"x" * (length or 1))
    if length is None:
        home.spool.remove([image.file])
    with pytest.raises(SpoolError):
        home.spool.read(SpooledImage(image.file, 0, 9, "sha"))


async def test_a_start_removes_what_this_machine_has_left(home: Home) -> None:
    """Another machine may be writing objects at that moment, so they are left alone."""
    (needed,) = await stored(home.spool, b"needed")
    (durable,) = await stored(home.spool, b"x")
    await stored(home.spool, b"x", durable=False)
    removed = home.spool.sweep_at_start({needed.file})
    assert removed == (1 if is_object(durable.file) else 2)
    assert needed.file in home.names()
    assert (durable.file in home.names()) == is_object(durable.file)


def test_a_sweep_leaves_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    for name in ("a-1", "a-2.part", "b-1"):
        (tmp_path / name).write_bytes(b"x")
    spool = FolderSpool(tmp_path)
    assert set(spool.written_before(time.time() + 60)) == {"a-1", "a-2.part", "b-1"}
    assert spool.sizes() == {"a-1": 1, "a-2.part": 1, "b-1": 1}
    assert spool.total_size() == 3
    assert FolderSpool(tmp_path / "missing").total_size() == 0
    assert spool.sweep_at_start({"a-1"}) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a-1", "lost+found"}


def test_a_file_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    remove([folder, tmp_path / "gone", file])
    assert list(tmp_path.iterdir()) == [folder]


async def test_a_descriptor_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux has closed it, also where close(2) tells of an error."""
    closed: list[int] = []

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        raise OSError(errno.EIO, "no")

    writer = FolderSpool(tmp_path).writer("w", durable=False)
    writer.write(memoryview(b"x"))
    writer.flush()
    with monkeypatch.context() as patch:
        patch.setattr("os.close", close)
        with pytest.raises(OSError, match="no"):
            await writer.commit()
        writer.discard()
    assert len(closed) == 1
    os.close(closed[0])
