"""Answers web processes that ask for the metrics of all processes."""

import asyncio
from collections.abc import Awaitable, Callable

from captiond.messages import MetricsAnswer
from captiond.recording import Registry
from captiond.supervisor.roster import ChildKind, Roster


class Scrapes:
    """Whoever asks while the metrics are brought up to date (`refresh`) gets the same answer."""

    def __init__(
        self, registry: Registry, roster: Roster, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._registry = registry
        self._roster = roster
        self._refresh = refresh
        self._asked: list[tuple[str, int]] = []
        self._wake = asyncio.Event()

    def ask(self, web: str, number: int) -> None:
        """Have the metrics sent to a web process soon."""
        self._asked.append((web, number))
        self._wake.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._wake.wait()
            await self._refresh()
            self._wake.clear()
            asked, self._asked = self._asked, []
            metrics = self._registry.total
            for web, number in asked:
                self._roster.send(ChildKind.WEB, web, MetricsAnswer(number, metrics))
