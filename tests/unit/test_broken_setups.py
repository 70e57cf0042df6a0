"""`captiond check` on broken set-ups. Each message is followed word for word, and then it is right.

The parts are checked as the command does it, but only the one that is broken: to load a tag
pipeline or a model takes longer than everything else here.
"""

import asyncio
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from captiond.captioners.files import EMBEDDED
from captiond.cli.check_command import check, parts
from captiond.databaseurl import DatabaseAddress
from captiond.errors import (
    CaptiondError,
    NoSpace,
    SettingsError,
    StartupError,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
)
from captiond.keys import new_secret
from captiond.settings.config import Settings
from captiond.settings.sources import load_settings
from captiond.store.engine import make_engine
from captiond.store.migrate import at_start, prepare_database
from captiond.supervisor.datafolder import make_folders
from tests.unit.test_datafolder import NOBODY, as_nobody, as_root, let_others_pass

Sections = dict[str, dict[str, object]]


def settings_with(data: Path, **sections: dict[str, object]) -> Settings:
    given: Sections = {"model": {"name": "captiond/scenes"}, **sections}
    given.setdefault("data", {})["dir"] = data
    given.setdefault("server", {"port": 0})
    return load_settings(file=None, environ={}, flags=given)


def problem(settings: Settings, part: str) -> str:
    """Return what the check says of a part that is broken."""
    with pytest.raises(CaptiondError) as caught:
        dict(parts(settings))[part]()
    return str(caught.value)


def result(settings: Settings, part: str) -> str:
    """Return what the check says of a part that is right."""
    return dict(parts(settings))[part]()


def test_the_data_folder_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("")
    assert problem(settings_with(file), "data folder") == (
        f"{file} is a file; set [data] dir to a folder"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    assert result(settings_with(folder), "data folder") == str(folder)
    assert "will be created" in result(settings_with(tmp_path / "new" / "one"), "data folder")


def test_the_spool_is_a_link_to_nothing(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    settings.spool.symlink_to(tmp_path / "gone")
    message = f"{settings.spool}: this is not a folder, or a link to none; move it away"
    assert problem(settings, "data folder") == message
    with pytest.raises(StartupError) as caught:
        make_folders(settings.spool)
    assert str(caught.value) == message
    settings.spool.rename(tmp_path / "elsewhere")
    assert result(settings, "data folder") == str(tmp_path)


def said_to_nobody(settings: Settings, part: str) -> str:
    check = dict(parts(settings))[part]
    return as_nobody(check)[0]


@as_root
@pytest.mark.parametrize("name", [".", "spool", "captiond.db", "captiond.db-wal", "spool/web0-1"])
def test_a_part_of_the_data_folder_belongs_to_somebody_else(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    (data / "spool").mkdir(parents=True)
    for file in ("captiond.db", "captiond.db-wal", "spool/web0-1"):
        (data / file).write_text("")
    let_others_pass(data)
    for path in (data, *data.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700 if path.is_dir() else 0o600)
    path = data / name
    os.chown(path, 0, 0)
    path.chmod(0o755 if path.is_dir() else 0o644)
    settings = settings_with(data)
    message = said_to_nobody(settings, "data folder")
    assert message.startswith(f"{path}: user ")
    assert "change its owner" in message
    os.chown(path, NOBODY, NOBODY)
    assert said_to_nobody(settings, "data folder") == ""


@as_root
def test_a_database_that_nobody_may_write(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    let_others_pass(tmp_path / "captiond.db")
    (tmp_path / "captiond.db").write_text("")
    for path in (tmp_path, (tmp_path / "captiond.db")):
        os.chown(path, NOBODY, NOBODY)
    (tmp_path / "captiond.db").chmod(0o400)
    message = said_to_nobody(settings, "database")
    _, _, command = message.partition("; run ")
    assert command == f"chmod u+rw {(tmp_path / 'captiond.db')}"
    (tmp_path / "captiond.db").chmod(0o600)
    assert said_to_nobody(settings, "database") == ""


def test_a_damaged_database(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    assert "will be created" in result(settings, "database")
    (tmp_path / "captiond.db").write_bytes(b"damaged" * 1000)
    message = problem(settings, "database")
    assert (
        "Restore a backup, or move captiond.db, captiond.db-wal and captiond.db-shm away" in message
    )
    (tmp_path / "captiond.db").rename(tmp_path / "elsewhere.db")
    assert "will be created" in result(settings, "database")


def test_a_database_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    asyncio.run(make_database(tmp_path / "captiond.db"))
    content = (tmp_path / "captiond.db").read_bytes()
    # The first page has the names of the tables, which are read in any case.
    (tmp_path / "captiond.db").write_bytes(content[:8192] + b"damaged!" * 2048 + content[24576:])
    message = problem(settings, "database")
    assert "Restore a backup, or move captiond.db" in message
    (tmp_path / "captiond.db").write_bytes(content)  # the backup
    assert result(settings, "database") == str(tmp_path / "captiond.db")


async def make_database(database: Path) -> None:
    engine = make_engine(database)
    await prepare_database(engine)
    await engine.dispose()


def test_a_database_of_a_newer_captiond(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    with closing(sqlite3.connect(tmp_path / "captiond.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
        message = problem(settings, "database")
        assert "use the captiond that made the database" in message
        assert "move" not in message, "the database is good"
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    assert "will be updated at the next start" in result(settings, "database")


def model_in(folder: Path) -> Path:
    """Make a folder with a model that is whole."""
    shutil.copytree(EMBEDDED["captiond/scenes"], folder)
    return folder


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_model(tmp_path: Path, missing: str) -> None:
    folder = model_in(tmp_path / "model")
    (folder / missing).rename(tmp_path / missing)
    settings = settings_with(tmp_path, model={"name": str(folder)})
    assert "holds config.json and model.safetensors" in problem(settings, "model")
    (tmp_path / missing).rename(folder / missing)
    assert str(folder) in result(settings, "model")


@pytest.mark.parametrize("part", ["model", "matching model"])
def test_a_model_whose_copy_was_interrupted(tmp_path: Path, part: str) -> None:
    folder = model_in(tmp_path / "model")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    name = "name" if part == "model" else "matcher"
    settings = settings_with(tmp_path, model={"name": "captiond/scenes", name: str(folder)})
    message = problem(settings, part)
    assert message.startswith(f"{weights} is damaged or not complete: ")
    assert message.endswith("; copy or download it again")
    weights.write_bytes(content)
    assert result(settings, part) == f"{folder} in {folder}"


def test_a_model_of_an_unknown_type(tmp_path: Path) -> None:
    folder = model_in(tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    settings = settings_with(tmp_path, model={"name": str(folder)})
    assert problem(settings, "model").endswith("'llama'; captiond knows: blip")


def test_a_model_that_was_not_pulled(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, model={"name": "nobody/nothing"})
    message = problem(settings, "model")
    assert message.endswith("fetch it with: captiond pull nobody/nothing")
    pulled = settings.model_cache / "models--nobody--nothing" / "snapshots" / "1"
    model_in(pulled)
    (pulled.parents[1] / "refs").mkdir()
    (pulled.parents[1] / "refs" / "main").write_text("1")
    assert str(pulled) in result(settings, "model")


def test_a_matching_model_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "matcher"
    model: dict[str, object] = {"name": "captiond/scenes", "matcher": str(folder)}
    settings = settings_with(tmp_path, model=model)
    assert "holds config.json and model.safetensors" in problem(settings, "matching model")
    model_in(folder)
    assert str(folder) in result(settings, "matching model")


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, model={"name": "captiond/scenes", "device": "cuda:99"})
    assert "set it to cpu or auto" in problem(settings, "device")
    for device in ("cpu", "auto"):
        right = settings_with(tmp_path, model={"name": "captiond/scenes", "device": device})
        assert result(right, "device")
        assert result(right, "measured on this machine")


@pytest.mark.parametrize(
    ("model", "failed"),
    [
        ({"name": "nobody/nothing"}, "model"),
        ({"name": "captiond/scenes", "device": "cuda:99"}, "device"),
    ],
)
@pytest.mark.parametrize("fallback", ["", "captiond/scenes"])
def test_one_cause_is_told_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: dict[str, object],
    failed: str,
    fallback: str,
) -> None:
    """A fallback captions instead of a missing model. It does not help against a missing GPU."""
    settings = settings_with(tmp_path, model=model | {"fallback": fallback})
    replaced = failed == "model" and fallback != ""
    assert check(settings) is replaced
    *lines, last = capsys.readouterr().out.splitlines()
    marked = [line.partition(": ")[0] for line in lines if not line.startswith("ok ")]
    assert [each for each in marked if "image decoders" not in each] == [
        f"{'warn' if replaced else 'FAIL'}  {failed}"
    ]
    assert ("only with the fallback model" in last) is replaced


def test_a_pipeline_that_is_not_installed(tmp_path: Path) -> None:
    tags: dict[str, object] = {"pipelines": "en=captiond/english,de=de_nothing_sm"}
    settings = settings_with(tmp_path, tags=tags)
    message = problem(settings, "tag pipeline de")
    assert message == (
        "tags.pipelines.de = de_nothing_sm: no such package is installed; try: "
        f"{sys.executable} -m spacy download de_nothing_sm"
    )
    tags = {"pipelines": "en=captiond/english,de=nowhere/here"}
    message = problem(settings_with(tmp_path, tags=tags), "tag pipeline de")
    assert "must be captiond/english, an installed package, or the folder" in message
    tags = {"pipelines": "en=captiond/english,de=captiond/english"}
    assert result(settings_with(tmp_path, tags=tags), "tag pipeline de") == "captiond/english"


def test_a_file_of_synonyms_with_a_wrong_line(tmp_path: Path) -> None:
    file = tmp_path / "synonyms.txt"
    settings = settings_with(tmp_path, tags={"synonyms": file})
    assert "cannot be read: No such file or directory" in problem(settings, "tag synonyms")
    file.write_text("automobile car\n")
    assert "'automobile car' is not of the form: automobile = car" in problem(
        settings, "tag synonyms"
    )
    file.write_text("automobile = car\n")
    assert result(settings, "tag synonyms").startswith("1 in ")


def test_a_vocabulary_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.txt"
    settings = settings_with(tmp_path, tags={"vocabulary": file})
    assert "cannot be read: No such file or directory" in problem(settings, "tag vocabulary")
    file.write_text("boat\nsun\n")
    assert result(settings, "tag vocabulary") == f"2 tags in {file}"


def test_a_vocabulary_that_nothing_can_score(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.txt"
    file.write_text("boat\n")
    tags: dict[str, object] = {"vocabulary": file, "vocabulary_scorer": "matching"}
    message = problem(settings_with(tmp_path, tags=tags), "tag vocabulary")
    assert "needs a model in [model] matcher" in message
    model: dict[str, object] = {"name": "captiond/scenes", "matcher": str(tmp_path / "matcher")}
    right = settings_with(tmp_path, model=model, tags=tags)
    assert result(right, "tag vocabulary") == f"1 tags in {file}"


def test_a_file_of_keys_with_a_wrong_entry(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    settings = settings_with(tmp_path, keys={"file": file})
    assert problem(settings, "keys") == f"{file}: cannot be read: No such file or directory"
    file.write_text("[frontend]\nkey = 'short'\n")
    message = problem(settings, "keys")
    assert message.startswith(f"{file}: frontend.key: ")
    assert "short" not in message, "no message shows a key"
    file.write_text(f"[frontend]\nkey = '{new_secret()}'\n")
    assert result(settings, "keys") == f"1 in {file}"


def test_a_folder_of_images_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    settings = settings_with(tmp_path, images={"root": root})
    assert problem(settings, "images on the server").endswith("correct [images] root")
    root.mkdir()
    assert result(settings, "images on the server") == str(root)


def test_a_secret_of_webhooks_that_is_none(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, webhooks={"allow": "hooks.example.com"})
    assert "will be created" in result(settings, "webhooks")
    settings.signing_secret.write_text("hunter2")
    assert problem(settings, "webhooks").endswith("correct it, or remove the file")
    settings.signing_secret.unlink()
    assert "will be created" in result(settings, "webhooks")


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        (
            {"tags": {"language": "de"}},
            {"tags": {"language": "de", "pipelines": "de=de_core_news_sm"}},
            "tags.pipelines has no pipeline for this language, only for: en",
        ),
        ({"server": {"prot": 80}}, {"server": {"port": 80}}, "there is no such setting"),
        ({"server": {"port": "http"}}, {"server": {"port": "80"}}, "must be a whole number"),
        ({"logs": {"level": "loud"}}, {"logs": {"level": "DEBUG"}}, "'debug', 'info', 'warning'"),
        ({"model": {"device": "gpu"}}, {"model": {"device": "cuda"}}, "must be auto, cpu, cuda"),
        ({"data": {"dir": ""}}, {"data": {"dir": "data"}}, "Path should not be empty"),
    ],
)
def test_a_wrong_setting(wrong: Sections, right: Sections, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(file=None, environ={}, flags=wrong)
    assert words in str(caught.value)
    load_settings(file=None, environ={}, flags=right)


@pytest.mark.parametrize(
    "error",
    [
        StoreRefused("no such table: tasks"),
        StoreReadOnly("attempt to write a readonly database"),
        StorageFailed("disk I/O error"),
        StoreBusy("the database is busy"),
        NoSpace("no space left"),
    ],
)
def test_only_a_damaged_database_is_to_be_moved_away(tmp_path: Path, error: StoreError) -> None:
    address = DatabaseAddress(tmp_path / "captiond.db")
    assert "move" not in str(at_start(address, error))
    damaged = str(at_start(address, StoreDamaged("file is not a database")))
    assert "Restore a backup, or move captiond.db" in damaged
