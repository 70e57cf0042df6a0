"""Images that are being captioned, so that equal images are captioned only once at a time."""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class UnderWay(Generic[T]):
    """Results that are being computed, by their key.

    The first ticket that joins a key leads: it computes the result, and must call `publish` and
    `leave`. The others wait for the leader's result.
    """

    _by_key: dict[str, "asyncio.Future[T | None]"] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)  # by the ticket that leads

    async def join(self, key: str, ticket: str) -> T | None:
        """Return the leader's result, or None if `ticket` leads now.

        If the leader has no result, the next ticket that waits becomes the leader.
        """
        while key in self._by_key:
            # Shielded: a ticket that is cancelled must not cancel what others wait for.
            result = await asyncio.shield(self._by_key[key])
            if result is not None:
                return result
        self._by_key[key] = asyncio.get_running_loop().create_future()
        self._keys[ticket] = key
        return None

    def publish(self, ticket: str, result: T | None) -> None:
        """Give a result to those who wait for `ticket`. Without a result it leads no longer.

        A ticket that does not lead is ignored.
        """
        key = self._keys.get(ticket)
        if key is None or self._by_key[key].done():
            return
        self._by_key[key].set_result(result)
        if result is None:
            self.leave(ticket)

    def leave(self, ticket: str) -> None:
        """Forget the result. From now on, others read it from the cache."""
        key = self._keys.pop(ticket, None)
        if key is not None:
            del self._by_key[key]
