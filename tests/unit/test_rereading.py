"""A query that is repeated runs again only when the database may have changed."""

from typing import Any

import pytest

from captiond.errors import StoreBusy
from captiond.keys import Key, digest_of
from captiond.store.credentials import StoredKeys, add_key, stored_keys
from captiond.store.engine import Engine
from captiond.store.rereading import LOOKS_AFTER_CHANGE, SKIPPED_LOOKS, Rereading

pytestmark = pytest.mark.anyio
KEY = Key("one", digest_of(b"x"))


class Counted:
    """The query of the keys. It counts its calls, and fails while `fails` is set."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    async def __call__(self, engine: Engine) -> StoredKeys:
        self.calls += 1
        if self.fails:
            raise StoreBusy("no space")
        return await stored_keys(engine)


async def looks(reread: Rereading[Any], query: Counted, number: int) -> int:
    """Look so many times, and return how often the query ran."""
    before = query.calls
    for _ in range(number):
        await reread.look()
    return query.calls - before


async def test_a_change_is_seen_at_once_and_rest_costs_little(store: Engine) -> None:
    await stored_keys(store)  # SQLite now has a write-ahead log
    query = Counted()
    reread = Rereading(store, query)
    assert await looks(reread, query, LOOKS_AFTER_CHANGE) == LOOKS_AFTER_CHANGE
    rest = await looks(reread, query, 10 * SKIPPED_LOOKS)
    assert rest == (10 if store.database.version() else 10 * SKIPPED_LOOKS)
    assert not await reread.look()
    await add_key(store, KEY, now=1.0)
    assert [each.key for each in (await reread.look()).keys] == [KEY]
    assert await looks(reread, query, LOOKS_AFTER_CHANGE - 1) == LOOKS_AFTER_CHANGE - 1


async def test_a_query_that_failed_runs_again(store: Engine) -> None:
    query = Counted()
    reread = Rereading(store, query)
    await looks(reread, query, LOOKS_AFTER_CHANGE + 1)
    await add_key(store, KEY, now=1.0)
    query.fails = True
    for _ in range(2 * LOOKS_AFTER_CHANGE):
        with pytest.raises(StoreBusy):
            await reread.look()
    query.fails = False
    assert [each.key for each in (await reread.look()).keys] == [KEY]


async def test_without_a_file_the_query_runs_each_time(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file may be another one the next time."""
    monkeypatch.setattr(type(store.database), "version", lambda _: None)
    query = Counted()
    reread = Rereading(store, query)
    number = 2 * (LOOKS_AFTER_CHANGE + SKIPPED_LOOKS)
    assert await looks(reread, query, number) == number
