"""A query that is repeated often, and run only when the database may have changed."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from captiond.store.engine import Engine

T = TypeVar("T")
# Some file systems keep the time of a change in steps of two seconds.
LOOKS_AFTER_CHANGE = 10
SKIPPED_LOOKS = 20  # at most, in case a file system shows no change


class Rereading(Generic[T]):
    """The result of a query. A few system calls show whether a file of SQLite has changed.

    They take a hundredth of the processor time of a query. `LOOKS_AFTER_CHANGE` looks should take
    more than two seconds, and the query runs in each of them. With a database server, it runs in
    all looks.
    """

    def __init__(self, engine: Engine, query: Callable[[Engine], Awaitable[T]]) -> None:
        self._engine = engine
        self._query = query
        self._result: T | None = None
        self._version: object = None
        self._unchanged = 0  # looks since the last change

    async def look(self) -> T:
        """Return the result as of now.

        Raises:
            StoreError: the query failed. The next look runs it again.
        """
        version = self._engine.database.version()
        self._unchanged = 0 if version is None or version != self._version else self._unchanged + 1
        settled = self._unchanged >= LOOKS_AFTER_CHANGE and self._unchanged % SKIPPED_LOOKS
        if self._result is None or not settled:
            self._version = None
            self._result = await self._query(self._engine)
            self._version = version
        return self._result
