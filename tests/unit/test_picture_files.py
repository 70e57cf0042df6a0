"""Which files `captiond caption` takes from what a folder holds."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from captiond.cli.captioning.picture_files import found_files
from tests.conftest import png

PICTURE = png(1)
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may read, too."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def put(path: Path, content: bytes = PICTURE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(*paths: Path) -> list[str]:
    return [found.path.name for found in found_files(paths) if not found.problem]


def problems(*paths: Path) -> dict[str, str]:
    return {found.path.name: found.problem for found in found_files(paths) if found.problem}


def test_images_are_found_by_name_or_else_by_content(folder: Path) -> None:
    for name in ("b.jfif", "a.PNG", "c.heic", "no_suffix", "odd.picture", "deep/er/d.jpg"):
        put(folder / name)
    put(folder / "notes.txt", b"text")
    put(folder / "claims_to_be.jpg", b"text")
    found = names(folder)
    assert found == [
        "a.PNG", "b.jfif", "c.heic", "claims_to_be.jpg", "d.jpg", "no_suffix", "odd.picture",
    ]  # fmt: skip
    assert problems(folder) == {}


def test_a_folder_with_the_name_of_an_image_is_a_folder(folder: Path) -> None:
    put(folder / "album.jpg" / "in.png")
    assert names(folder) == ["in.png"]
    assert names(folder / "album.jpg") == ["in.png"]


@pytest.mark.parametrize(
    "name", ["._a.jpg", ".hidden.png", ".thumbnails/t.png", "@eaDir/thumb.jpg", "__MACOSX/a.png"]
)
def test_what_other_programs_keep_beside_images_is_left_out(folder: Path, name: str) -> None:
    put(folder / name)
    put(folder / "a.png")
    assert names(folder) == ["a.png"]
    assert names(folder / name) == [Path(name).name], "unless it is named"


def test_what_is_no_file_is_reported_and_never_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        put(folder / "z.png")
        assert names(folder) == ["z.png"]
        found = problems(folder, folder / "pipe.jpg", Path("/dev/null"))
    assert found == {
        "pipe.jpg": "not a file but a named pipe",
        "socket": "not a file but a socket",
        "null": "not a file but a device",
    }


def test_links(folder: Path) -> None:
    put(folder / "real" / "a.png")
    (folder / "real" / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    (folder / "dangling.png").symlink_to("gone.png")
    (folder / "z_link.png").symlink_to(folder / "real" / "a.png")
    assert names(folder) == ["a.png", "z_link.png"]
    found = problems(folder)
    assert found.keys() == {"self.png", "dangling.png"}
    assert found["self.png"] == "a link that leads back to itself"
    assert found["dangling.png"] == "a link to gone.png, which does not exist"


def test_a_file_deep_in_folders_is_found(folder: Path) -> None:
    put(folder.joinpath(*["a"] * 480, "in.png"))
    assert names(folder) == ["in.png"]


def test_what_is_not_there(folder: Path) -> None:
    assert problems(folder / "gone.png") == {"gone.png": "No such file or directory"}
    assert names(folder) == []


def test_what_may_not_be_read_is_reported_and_stops_nothing(folder: Path) -> None:
    put(folder / "closed" / "in.png")
    put(folder / "locked.png")
    put(folder / "open.png")
    (folder / "closed").chmod(0)
    (folder / "locked.png").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        found, readable = problems(folder), names(folder)
    finally:
        if root:
            os.seteuid(0)
        (folder / "closed").chmod(0o755)
    assert readable == ["open.png"]
    assert found == {"closed": "Permission denied", "locked.png": "Permission denied"}


def test_a_name_that_is_not_utf8(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    put(folder / name)
    assert names(folder) == [name]
