"""A current folder that somebody has deleted."""

import json
from pathlib import Path

import psutil
import pytest

from captiond.host.currentfolder import NOWHERE, leave_deleted_folder
from captiond.messages import Drain
from tests.service import DATA, MODEL, ONE_THREAD, captiond
from tests.unit.supervised import settings_in, spawned

# A prefix: the command runs in a folder that does not exist any more.
IN_A_DELETED_FOLDER = ("sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$0" "$@"')


def test_only_a_deleted_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave_deleted_folder()
    assert Path.cwd() == tmp_path
    delete_current_folder(tmp_path, monkeypatch)
    leave_deleted_folder()
    assert str(Path.cwd()) == NOWHERE


def delete_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.anyio
async def test_a_service_replaces_its_processes_although_its_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its release was replaced by a newer one while it ran."""
    settings = settings_in(tmp_path)
    delete_current_folder(tmp_path, monkeypatch)
    async with spawned(settings, "model0-1") as child:
        assert psutil.Process(child.process.pid).cwd() == NOWHERE
        child.channel.send(Drain())
        assert await child.exited() == 1


def test_a_command_captions_images_of_other_folders(tmp_path: Path) -> None:
    picture = str(DATA / "black_cat.jpg")
    result = captiond(
        "caption", "--model", MODEL, picture, "here.jpg",
        cwd=tmp_path, prefix=IN_A_DELETED_FOLDER, **ONE_THREAD,
    )  # fmt: skip
    captioned, missing = map(json.loads, result.stdout.splitlines())
    assert captioned["caption"] == "a black cat"
    assert missing["error"]
    assert result.returncode == 1
