"""What is being worked on, so that nobody does the same at the same time."""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class UnderWay(Generic[T]):
    """Work by its key. The first who joins leads; the others wait for what it finds."""

    _by_key: dict[str, "asyncio.Future[T | None]"] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)  # of those who lead

    async def join(self, key: str, ticket: str) -> T | None:
        """What somebody else finds; None: `ticket` leads, and is to tell by `lead` and `leave`.

        If the one who leads finds nothing, the next of those who wait leads.
        """
        while key in self._by_key:
            found = await self._by_key[key]
            if found is not None:
                return found
        self._by_key[key] = asyncio.get_running_loop().create_future()
        self._keys[ticket] = key
        return None

    def lead(self, ticket: str, found: T | None) -> None:
        """Tell those who wait for `ticket`, if it leads; who finds nothing leads no longer."""
        key = self._keys.get(ticket)
        if key is None or self._by_key[key].done():
            return
        self._by_key[key].set_result(found)
        if found is None:
            self.leave(ticket)

    def leave(self, ticket: str) -> None:
        """What was found is where all find it: nobody needs to wait any more."""
        key = self._keys.pop(ticket, None)
        if key is not None:
            del self._by_key[key]
