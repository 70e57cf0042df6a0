"""Two services that share a prefix of object storage by mistake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from captiond.databaseurl import DatabaseAddress
from captiond.errors import StartupError, StorageFailed
from captiond.spool.bucket import open_bucket
from captiond.spool.objects import MARK, ObjectSpool
from captiond.store.engine import Engine, make_engine
from captiond.store.migrate import prepare_database
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.prefixowner import check_prefix, confirm_prefix
from tests.s3server import S3Server
from tests.spools import home_in, stored
from tests.unit.supervised import background
from tests.wire import wire

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(s3: S3Server) -> Iterator[S3Server]:
    yield s3
    s3.clear()


@pytest.fixture
def objects(server: S3Server, tmp_path: Path) -> ObjectSpool:
    return ObjectSpool(open_bucket(server.settings()), tmp_path)


async def test_the_first_service_has_the_prefix_and_others_do_not_start(
    objects: ObjectSpool, store: Engine, tmp_path: Path
) -> None:
    await check_prefix(objects, store)
    await check_prefix(objects, store)  # another node, or the next start
    assert objects.sizes() == {}  # no sweep takes the mark for a file
    other = make_engine(DatabaseAddress(tmp_path / "other.db"))
    await prepare_database(other)
    with pytest.raises(StartupError, match=f"{MARK}: another captiond, with another database"):
        await check_prefix(objects, other)
    await other.dispose()
    await check_prefix(None, store)


async def test_nothing_is_removed_while_it_is_not_known_whose_the_files_are(
    server: S3Server, store: Engine, tmp_path: Path
) -> None:
    """The storage may be away when a service starts, which then accepts tasks later."""
    with wire(server.endpoint) as line:
        unsure = ObjectSpool(open_bucket(server.settings(endpoint=line.endpoint)), tmp_path)
        line.cut()
        await check_prefix(unsure, store)
    home = home_in(tmp_path, server)
    await stored(home.spool, b"of another service")
    server.put(MARK, b"another one")
    objects = ObjectSpool(open_bucket(server.settings()), tmp_path)
    with pytest.raises(StorageFailed, match="set \\[uploads\\] url to a prefix of its own"):
        await confirm_prefix(objects, store)

    async def needed() -> set[str]:
        return set()

    cleaner = SpoolCleaner(home.spool, needed, confirm=lambda: confirm_prefix(objects, store))
    async with background(cleaner.run()):
        assert [await cleaner.remove_orphans(grace=0) for _ in range(2)] == [0, 0]
        assert len(server.names()) == 1
