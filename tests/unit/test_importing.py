"""A listing that was interrupted goes on where it was, or says that it cannot."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from captiond.bulk import importing
from captiond.bulk.importing import ImportRun, next_shards, queue_import, rest_of_listing
from captiond.cli.import_command import check_output
from captiond.errors import SettingsError
from captiond.jobs import Status
from captiond.references.shard_files import ShardFiles
from captiond.store.engine import Engine
from captiond.store.shards import ImportState, NewImport, join_import, mark_of
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
    run = ImportRun(store, state, "us", ShardFiles(output, "jsonl"), lambda _: None)
    assert (await queue_import(run)).images == 1


def test_the_folder_of_the_results_must_have_a_name_that_can_be_stored() -> None:
    check_output("/ä")
    with pytest.raises(SettingsError, match=r"--output: /\\udce9: must be UTF-8"):
        check_output(os.fsdecode(b"/\xe9"))
