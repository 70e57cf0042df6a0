"""No other user can use the data folder, and a folder that cannot be used is named."""

import asyncio
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.errors import CaptiondError, StartupError
from captiond.settings.config import DataSettings, Settings
from captiond.spool import FolderSpool
from captiond.supervisor.datafolder import (
    check_files,
    create_privately,
    home_of,
    make_folders,
    make_model_folder,
    make_private,
    provide_temporary_folder,
    user_name,
)
from captiond.supervisor.lock import locked
from tests.unit.forked import exit_code_of

NOBODY = 65534
FILES = ("captiond.db", "captiond.db-wal", "captiond.lock", "webhook-secret", "spool/web0-1")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


def settings_of(folder: Path) -> Settings:
    return Settings(data=DataSettings(dir=folder))


def modes(folder: Path) -> set[str]:
    return {oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A data folder as an earlier version left it."""
    folder = tmp_path / "data"
    (folder / "spool").mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("")
        (folder / name).chmod(0o644)
    for path in (folder, folder / "spool"):
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_the_service_creates_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create_privately()
        folder = tmp_path / "data"
        make_folders(folder, folder / "spool")
        (folder / "metrics.json").write_text("{}")
        with locked(folder):
            pass
        writer = FolderSpool(folder / "spool").writer("web0", durable=False)
        writer.write(memoryview(b"image"))
        writer.end()
        asyncio.run(writer.commit())
    finally:
        os.umask(before)
    assert modes(folder) == {"0o700", "0o600"}


def test_the_lock_file_is_private_by_itself(tmp_path: Path) -> None:
    """`captiond db upgrade` creates it too."""
    before = os.umask(0)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "captiond.lock").stat().st_mode) == 0o600


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "captiond.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match=r"captiond\.lock: cannot be opened"), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_an_open_folder_is_mended_with_one_log_line(open_folder: Path) -> None:
    (open_folder / "captiond.db").chmod(0o4777)
    with capture_logs() as logs:
        make_private(settings_of(open_folder))
    (entry,) = logs
    assert (entry["event"], entry["entries"]) == ("data_folder_made_private", len(FILES) + 2)
    assert len(entry["first"]) == 5
    assert modes(open_folder) == {"0o700", "0o600"}
    with capture_logs() as logs:
        make_private(settings_of(open_folder))
    assert logs == []


def test_a_link_in_the_folder_is_left_alone(open_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o644)
    (open_folder / "link").symlink_to(outside)
    make_private(settings_of(open_folder))
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def let_others_pass(folder: Path) -> None:
    """Let other users reach a folder of this test."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)


def as_nobody(call: Callable[[], object]) -> tuple[str, list[dict[str, object]]]:
    """Run a function as another user. Return the message of its error, and its log.

    The child process never returns, whatever the function raises.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        message = "an unexpected error"
        with capture_logs() as logs:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                call()
                message = ""
            except CaptiondError as error:
                message = str(error)
            finally:
                os.write(writer, json.dumps([message, logs]).encode())
                os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        assert exit_code_of(child) == 0
        message, logs = json.load(result)
    return message, logs


@as_root
def test_files_of_another_owner_are_named_with_their_owner(open_folder: Path) -> None:
    let_others_pass(open_folder)
    for path in (open_folder, *open_folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    settings, root = settings_of(open_folder), user_name(0)
    for name in ("captiond.db-wal", "spool/web0-1"):
        os.chown(open_folder / name, 0, 0)
        message, _ = as_nobody(lambda: check_files(settings))
        assert message == (
            f"{open_folder / name}: user {user_name(NOBODY)} cannot write to it, it belongs to "
            f"{root}; change its owner, or run captiond as that user"
        )
        os.chown(open_folder / name, NOBODY, NOBODY)
    (open_folder / "backup.db").write_text("")
    assert as_nobody(lambda: check_files(settings)) == ("", []), "the service does not need it"
    os.chown(open_folder / "spool", 0, 0)
    message, _ = as_nobody(lambda: make_folders(open_folder / "spool"))
    assert f"it belongs to {root}" in message


@as_root
def test_a_file_whose_mode_forbids_its_owner_to_write_is_named_with_the_cure(
    open_folder: Path,
) -> None:
    let_others_pass(open_folder)
    for path in (open_folder, *open_folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    database = open_folder / "captiond.db"
    database.chmod(0o444)
    message, _ = as_nobody(lambda: check_files(settings_of(open_folder)))
    assert message == (
        f"{database}: its mode does not let its owner {user_name(NOBODY)} write to it; run chmod "
        f"u+rw {database}"
    )
    open_folder.chmod(0o555)
    message, _ = as_nobody(lambda: make_folders(open_folder))
    assert message.endswith(f"run chmod u+rwx {open_folder}")


@as_root
def test_models_that_another_user_has_downloaded_are_enough(open_folder: Path) -> None:
    let_others_pass(open_folder)
    models = open_folder / "models"
    open_folder.chmod(0o755)
    models.mkdir(mode=0o755)
    models.chmod(0o755)
    assert as_nobody(lambda: make_model_folder(models)) == ("", [])
    models.chmod(0o700)
    message, _ = as_nobody(lambda: make_model_folder(models))
    assert f"{models}: user {user_name(NOBODY)} cannot read it, it belongs to" in message
    message, _ = as_nobody(lambda: make_model_folder(models / "hub"))
    assert f"{models / 'hub'}: cannot be made: Permission denied" in message


@as_root
def test_a_folder_that_the_group_may_use_is_a_warning(open_folder: Path) -> None:
    """As on a volume of Kubernetes with fsGroup."""
    let_others_pass(open_folder)
    for path in (open_folder, *open_folder.rglob("*")):
        os.chown(path, 0, NOBODY)
        path.chmod(0o770 if path.is_dir() else 0o660)
    settings = settings_of(open_folder)
    message, logs = as_nobody(lambda: make_private(settings))
    assert as_nobody(lambda: check_files(settings)) == (message, []) == ("", [])
    assert [entry["event"] for entry in logs] == ["data_folder_open_to_other_users"]


@pytest.fixture
def _no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a read-only root and without /tmp."""

    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/nowhere")


@pytest.mark.usefixtures("_no_temporary_folder")
def test_libraries_get_a_temporary_folder_in_the_data_folder(open_folder: Path) -> None:
    assert provide_temporary_folder(open_folder) == open_folder / "tmp"
    assert os.environ["TMPDIR"] == str(open_folder / "tmp")
    assert stat.S_IMODE((open_folder / "tmp").stat().st_mode) == 0o700
    provide_temporary_folder(open_folder)


@pytest.mark.usefixtures("_no_temporary_folder")
def test_without_any_temporary_folder_a_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="name one in the variable TMPDIR"):
        provide_temporary_folder(tmp_path / "nowhere")


def test_a_usual_temporary_folder_is_left_alone(open_folder: Path) -> None:
    assert provide_temporary_folder(open_folder) is None
    assert not (open_folder / "tmp").exists()


def test_a_folder_keeps_its_name_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    name = home_of(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", name)
    assert home_of(tmp_path) == name
    (tmp_path / "home").write_bytes(name.encode()[:5])
    assert home_of(tmp_path) not in {name, name[:5]}
    other = tmp_path / "other"
    other.mkdir()
    assert home_of(other) != home_of(tmp_path)


def test_a_name_of_a_folder_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with pytest.raises(StartupError, match="home: cannot be used"):
        home_of(tmp_path)
