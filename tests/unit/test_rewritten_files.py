"""What a file keeps that captiond writes anew: its attributes, its secrets, and others' changes."""

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from captiond.cli.captioning import destinations
from captiond.cli.captioning.command import caption_paths
from captiond.cli.captioning.result_options import result_options
from captiond.photofiles.merging import merge
from captiond.photofiles.replacement import ACL
from tests.unit.caption_runs import NOBODY, Captions, asked, printed, run, three_images
from tests.unit.test_xmp import PERSONS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return three_images(tmp_path)


def access_list(other_user: int) -> bytes:
    """Return an ACL as Linux stores it, by which another user may read and the group may not."""
    none = 0xFFFFFFFF
    entries = ((1, 6, none), (2, 4, other_user), (4, 0, none), (16, 4, none), (32, 0, none))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_embedding_keeps_extended_attributes_and_access_lists(folder: Path) -> None:
    """Without the list, the group would get what the mode says of its mask."""
    image, access = folder / "a.png", access_list(NOBODY)
    os.setxattr(image, "user.rating", b"5")
    os.setxattr(image, ACL, access)
    os.setxattr(folder, ACL.replace("access", "default"), access)  # for new files
    (folder / "b.png").chmod(0o644)
    assert run(folder, asked(embed=True))
    assert os.getxattr(image, "user.rating") == b"5"
    assert os.getxattr(image, ACL) == access
    assert ACL not in os.listxattr(folder / "b.png")
    assert (folder / "b.png").stat().st_mode & 0o777 == 0o644


def test_an_image_whose_attributes_cannot_be_kept_stays(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = folder / "a.png"
    os.setxattr(image, "user.rating", b"5")
    before = image.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "setxattr", full)
    assert not caption_paths([image], Captions(), result_options(asked(embed=True)))
    assert (image.read_bytes(), os.getxattr(image, "user.rating")) == (before, b"5")
    assert "No space left" in printed(capsys)[0]["error"]


def test_nobody_else_can_read_the_new_file_of_a_private_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.png").chmod(0o600)
    modes, genuine = [], os.fchmod

    def noted(descriptor: int, mode: int) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        genuine(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", noted)
    assert run(folder, asked(embed=True))
    assert modes == [0o600] * 3


def test_an_xmp_file_that_changes_meanwhile_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar, image = folder / "a.png.xmp", folder / "a.png"
    sidecar.write_bytes(PERSONS)
    edited = PERSONS.replace(b"Unser Boot", b"Das Boot")

    def edit_meanwhile(*arguments: Any, **more: Any) -> Any:
        merged = merge(*arguments, **more)
        sidecar.write_bytes(edited)
        return merged

    monkeypatch.setattr(destinations, "merge", edit_meanwhile)
    assert not caption_paths([image], Captions(), result_options(asked("xmp")))
    assert sidecar.read_bytes() == edited
    assert "changed it meanwhile" in printed(capsys)[0]["error"]
