"""A listing that was interrupted goes on where it was, or says that it cannot."""

from pathlib import Path

import pytest

from captiond.bulk.importing import next_shards, rest_of_listing
from captiond.errors import SettingsError
from captiond.jobs import Status
from captiond.store.shards import ImportState, mark_of


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
