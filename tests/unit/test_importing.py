"""A listing that was interrupted goes on where it was, or says that it cannot."""

import asyncio
import os
import sqlite3
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from captiond.bulk import importing
from captiond.bulk.bulk_captioner import BulkCaptioner, BulkResult
from captiond.bulk.importing import (
    ImportRun,
    caption_shard,
    caption_until_done,
    keep_claims,
    next_shards,
    queue_import,
    rest_of_listing,
    run_import,
    take_place,
)
from captiond.cli.import_command import check_output, work_at
from captiond.errors import (
    ImportNotFound,
    NoSpace,
    ReferenceUnreadable,
    SettingsError,
    StorageFailed,
    StoreDamaged,
    StoreError,
    StoreUncertain,
    StoreUnreachable,
)
from captiond.jobs import Refused, Status
from captiond.references.shard_files import PLACE, ShardFiles
from captiond.settings.config import DataSettings, Settings
from captiond.store import patience, shard_claims, shards
from captiond.store.engine import Engine
from captiond.store.shard_claims import ShardClaim
from captiond.store.shards import (
    ImportState,
    NewImport,
    join_import,
    mark_of,
    other_output,
    read_import,
)
from tests.patience import PATIENCE
from tests.service import wait_for

T = TypeVar("T")


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
async def test_the_name_of_the_host_may_have_any_bytes(
    store: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux takes any, and the database takes only characters. The claims have the name."""
    monkeypatch.setattr("socket.gethostname", lambda: os.fsdecode(b"b\xfcro"))
    sources, output = (str(folder),), str(folder / "out")
    new = NewImport("import_1", sources, "uri", output, "jsonl", 2, 1.0, queued=True)
    file = store.database.address.file
    assert file is not None
    state = await work_at(new, Settings(data=DataSettings(dir=file.parent)))
    assert state.listed


@pytest.mark.anyio
async def test_temporary_files_are_in_the_data_folder_if_nowhere_else(
    store: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a read-only root and without /tmp."""

    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    async def finished(run: ImportRun, _: Settings) -> ImportState:
        return run.state

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(importing, "run_import", finished)
    file = store.database.address.file
    assert file is not None
    new = NewImport("import_1", (str(folder),), "uri", str(folder / "out"), "jsonl", 2, 1.0)
    await work_at(new, Settings(data=DataSettings(dir=file.parent)))
    assert os.environ["TMPDIR"] == str(file.parent / "tmp")


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


def failing_once(
    transaction: Callable[..., Awaitable[T]], error: StoreError, *, after: bool = False
) -> Callable[..., Awaitable[T]]:
    """Return a transaction that fails at the first call, before or `after` it was carried out."""
    errors = [error]

    async def failing(*arguments: object, **options: object) -> T:
        if errors and not after:
            raise errors.pop()
        result = await transaction(*arguments, **options)
        if errors:
            raise errors.pop()
        return result

    return failing


@pytest.mark.anyio
async def test_an_import_waits_while_the_database_is_away(
    store: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the answer to a commit is lost, no shard is added twice."""
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.01)
    away, lost = StoreUnreachable("no connection"), StoreUncertain("no answer")
    failures = (
        (shards, "read_import", away, False),
        (shards, "begin_listing", away, False),
        (shards, "add_shards", lost, True),
        (shard_claims, "claim_shard", away, False),
    )
    for module, name, error, after in failures:
        monkeypatch.setattr(module, name, failing_once(getattr(module, name), error, after=after))
    output = str(folder / "results")
    new = NewImport("import_1", (str(folder),), "uri", output, "jsonl", 2, 1.0, queued=True)
    run = run_of(store, await join_import(store, new))
    state = await queue_import(run)
    assert (state.images, state.shards, state.listed) == (4, 2, True)
    async with asyncio.timeout(PATIENCE):
        await caption_until_done(run, cast(BulkCaptioner, Refusing()))
    assert (await read_import(store, "import_1")).failed == 4


@pytest.mark.anyio
async def test_a_file_that_cannot_be_written_ends_an_import_only_with_a_claim(
    store: Engine, folder: Path
) -> None:
    """A process that was suspended for a minute has lost it, and what it writes is removed."""
    output = str(folder / "a.png" / "results")
    await join_import(store, NewImport("import_1", ("/p",), "uri", output, "jsonl", 1, 1.0))
    assert await shards.begin_listing(store, "import_1", "us")
    assert await shards.add_shards(store, "import_1", "us", [["/p/a.png"]])
    run = run_of(store, await read_import(store, "import_1"))
    captioner = cast(BulkCaptioner, Refusing())
    claim = await shard_claims.claim_shard(store, "import_1", "us")
    assert claim is not None
    with pytest.raises(StorageFailed, match="results"):
        await caption_shard(run, captioner, claim)
    await shard_claims.release_shards(store, "import_1", "us")
    assert await shard_claims.claim_shard(store, "import_1", "them") is not None
    await caption_shard(run, captioner, claim)
    assert (await read_import(store, "import_1")).done == 0


async def claimed(store: Engine, folder: Path) -> tuple[ImportRun, ShardClaim]:
    """Return an import with one shard of one image, and our claim of it."""
    output = str(folder / "results")
    await join_import(store, NewImport("import_1", ("/p",), "uri", output, "jsonl", 1, 1.0))
    assert await shards.begin_listing(store, "import_1", "us")
    assert await shards.add_shards(store, "import_1", "us", [["/p/a.png"]])
    run = run_of(store, await read_import(store, "import_1"))
    run.files.mark_place(run.state.id)
    claim = await shard_claims.claim_shard(store, "import_1", "us")
    assert claim is not None
    return run, claim


@pytest.mark.anyio
async def test_an_import_that_is_cancelled_has_written_its_shard_before_others_get_it(
    store: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It releases its claims next. Two hosts would otherwise write one file at the same time."""
    run, claim = await claimed(store, folder)
    begun, may_end, write = threading.Event(), threading.Event(), ShardFiles.write

    def slowly(files: ShardFiles, number: int, rows: list[dict[str, Any]]) -> None:
        begun.set()
        assert may_end.wait(PATIENCE)
        write(files, number, rows)

    monkeypatch.setattr(ShardFiles, "write", slowly)
    work = asyncio.create_task(caption_shard(run, cast(BulkCaptioner, Refusing()), claim))
    await asyncio.to_thread(begun.wait, PATIENCE)
    work.cancel()
    for _ in range(5):  # an import that does not wait ends now
        await asyncio.sleep(0)
    assert not work.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert len(run.files.read(claim.number)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error", [StoreDamaged("damaged"), NoSpace("full")], ids=["damage", "full"]
)
@pytest.mark.parametrize("transaction", ["extend", "finish_shard"])
async def test_an_error_that_lasts_ends_an_import(
    store: Engine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: StoreError,
    transaction: str,
) -> None:
    """Otherwise the command would wait for ever, with nothing but a line in the log."""
    run, claim = await claimed(store, folder)

    async def fail(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(importing, "EXTEND_SECONDS", 0.0)
    monkeypatch.setattr(shard_claims, transaction, fail)
    captioner = cast(BulkCaptioner, Refusing())
    work = keep_claims(run) if transaction == "extend" else caption_shard(run, captioner, claim)
    with pytest.raises(type(error)):
        async with asyncio.timeout(PATIENCE):
            await work


class Refusing:
    """A captioner for which no image can be read."""

    async def caption_at(self, address: str) -> BulkResult:
        return BulkResult(Refused.of(ReferenceUnreadable(address)))


def test_the_folder_of_the_results_must_have_a_name_that_can_be_stored() -> None:
    check_output("/ä")
    with pytest.raises(SettingsError, match=r"--output: /\\udce9: must be UTF-8"):
        check_output(os.fsdecode(b"/\xe9"))
