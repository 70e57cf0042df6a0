"""The images that a caller of the Python client names, as they are sent."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from captiond.client import RetryPolicy, calls
from captiond.client.pictures import Picture, file_part
from tests.descriptors import open_beneath


def content(picture: Picture) -> tuple[str, bytes]:
    name, file = file_part(picture)
    first = file.read()
    file.seek(0)
    assert file.read() == first  # for a repetition
    return name, first


def test_an_image_may_be_a_path_bytes_or_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"meow")
    with path.open("rb") as file:
        assert content(file) == ("cat.jpg", b"meow")
    assert content(path) == ("cat.jpg", b"meow")
    assert content(str(path)) == ("cat.jpg", b"meow")
    assert content(b"meow") == ("image", b"meow")
    assert content(io.BytesIO(b"meow")) == ("image", b"meow")
    assert content(("dog.jpg", b"meow")) == ("dog.jpg", b"meow")
    assert content(("dog.jpg", io.BytesIO(b"meow"))) == ("dog.jpg", b"meow")


def test_a_file_name_that_is_not_utf8_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(b"meow")
    assert content(path) == ("caf�.jpg", b"meow")


def test_files_are_open_only_while_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"meow" * 1000)
    parts = [file_part(path)[1] for _ in range(50)]
    assert open_beneath(tmp_path) == []
    assert parts[0].read(4) == b"meow"
    assert len(open_beneath(tmp_path)) == 1
    while parts[0].read(1000):
        pass
    assert open_beneath(tmp_path) == []


@pytest.mark.parametrize("size", [1, 9])
def test_a_file_that_changes_while_it_is_sent_is_an_error_of_this_file(
    tmp_path: Path, size: int
) -> None:
    """The head of the request says the former size."""
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"meow")
    _, at_once = file_part(path)
    path.write_bytes(b"m" * size)
    with pytest.raises(OSError, match="has changed while it was sent"):
        at_once.read()
    _, later = file_part(path)
    with path.open("wb") as file:
        file.truncate(size)
        assert later.read(1) == b"\0"
        file.truncate(size - 1)
        later.seek(0)
        with pytest.raises(OSError, match="has changed while it was sent"):
            later.read()
    assert open_beneath(tmp_path) == []


@pytest.mark.parametrize("wrong", [3, None, ("a", 3), (b"a", b"b"), io.StringIO("text")])
def test_what_is_no_image(wrong: Any) -> None:
    with pytest.raises(TypeError):
        file_part(wrong)


def test_a_missing_file_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(calls.caption_one(tmp_path / "none.jpg", {}, RetryPolicy(), lambda: 0.0))
