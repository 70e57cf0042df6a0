"""A listing that was interrupted goes on where it was, or says that it cannot."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from captiond.bulk import importing
from captiond.bulk.importing import (
    ImportRun,
    next_shards,
    queue_import,
    rest_of_listing,
    run_import,
    take_place,
)
from captiond.cli.import_command import check_output, work_at
from captiond.errors import ImportNotFound, SettingsError, StorageFailed
from captiond.jobs import Status
from captiond.references.shard_files import PLACE, ShardFiles
from captiond.settings.config import DataSettings, Settings
from captiond.store.engine import Engine
from captiond.store.shards import (
    ImportState,
    NewImport,
    join_import,
    mark_of,
    other_output,
    read_import,
)
from tests.service import wait_for


def interrupted(folder: Path, after: str, images: int) -> ImportState:
    """Return an import whose listing was interrupted after an image."""
    return ImportState(
        id="import_1",
        status=Status.PROCESSING,
        created_at=1.0,
        finished_at=None,
        output="/results",
        sources=(str(folder), str(folder / "last.png")),
        column="uri",
        form="jsonl",
        shard_images=2,
        listed=False,
        last_address=mark_of(str(folder / after)),
        shards=1,
        open_shards=1,
        images=images,
        captioned=0,
        failed=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png", "last.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_an_interrupted_listing_goes_on(folder: Path) -> None:
    listed = rest_of_listing(interrupted(folder, "b.png", 2))
    names = [[Path(each).name for each in part] for part in next_shards(listed, 2)]
    assert names == [["c.png", "last.png"], ["last.png"]]
    assert next_shards(listed, 2) == []


def test_a_listing_that_has_changed_is_an_error(folder: Path) -> None:
    (folder / "aa.png").touch()
    with pytest.raises(SettingsError, match="have changed since import_1"):
        rest_of_listing(interrupted(folder, "b.png", 2))
    for name in ("a.png", "aa.png", "b.png", "c.png"):
        (folder / name).unlink()
    with pytest.raises(SettingsError, match="have changed since import_1"):
        rest_of_listing(interrupted(folder, "b.png", 2))


def run_of(store: Engine, state: ImportState) -> ImportRun:
    files = ShardFiles(state.output, state.form)
    return ImportRun(store, state, "us", files, lambda _: None)


@pytest.mark.anyio
async def test_a_folder_that_hosts_do_not_share_gets_no_results(
    store: Engine, folder: Path
) -> None:
    """A host that joins an import has a folder of the same name, but another one."""
    new = NewImport("import_1", (str(folder),), "uri", str(folder / "out"), "jsonl", 2, 1.0)
    state = await join_import(store, new)
    await take_place(run_of(store, state))
    assert ShardFiles(state.output, state.form).marked_by() == "import_1"
    await take_place(run_of(store, replace(state, shards=1)))
    (folder / "out" / PLACE).unlink()
    with pytest.raises(StorageFailed, match="not the folder of import_1, which all machines have"):
        await run_import(run_of(store, replace(state, shards=1)), Settings())


@pytest.mark.anyio
async def test_two_imports_cannot_write_to_one_folder(
    store: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link gives a folder another name. A mark of an import that is deleted is no obstacle."""
    out, link = folder / "out", folder / "link"
    link.symlink_to("out")
    ShardFiles(str(out), "jsonl").mark_place("import_1")
    assert await other_output(store, "import_1", str(link)) is None
    await join_import(store, NewImport("import_1", ("/a",), "uri", str(out), "jsonl", 2, 1.0))
    new = NewImport("import_2", ("/b",), "uri", str(link), "jsonl", 2, 1.0, queued=True)
    file = store.database.address.file
    assert file is not None
    settings = Settings(data=DataSettings(dir=file.parent))
    with pytest.raises(SettingsError, match=f"link: the folder of import_1 .*: {out}"):
        await work_at(new, settings)
    with pytest.raises(ImportNotFound):
        await read_import(store, "import_2")


@pytest.mark.anyio
async def test_a_slow_listing_stays_with_its_process(
    store: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that is read again from its beginning may take longer than a claim lasts."""
    file = store.database.address.file
    assert file is not None

    def claimed_until() -> float:
        with closing(sqlite3.connect(file)) as connection:
            return float(connection.execute("SELECT lister_until FROM imports").fetchone()[0])

    def slow(_source: str, _column: str) -> Iterator[str]:
        begun = claimed_until()
        wait_for(lambda: claimed_until() > begun, "an extended claim")
        yield "/a.png"

    monkeypatch.setattr(importing, "EXTEND_SECONDS", 0.01)
    monkeypatch.setattr(importing, "addresses", slow)
    output = str(folder / "results")
    new = NewImport("import_1", ("/photos",), "uri", output, "jsonl", 2, 1.0, queued=True)
    state = await join_import(store, new)
    assert (await queue_import(run_of(store, state))).images == 1


def test_the_folder_of_the_results_must_have_a_name_that_can_be_stored() -> None:
    check_output("/ä")
    with pytest.raises(SettingsError, match=r"--output: /\\udce9: must be UTF-8"):
        check_output(os.fsdecode(b"/\xe9"))
