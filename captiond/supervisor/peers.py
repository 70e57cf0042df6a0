"""What the nodes that share a database say to each other: hints, which may be lost.

They go through the database, so no node needs a way to another one, and a node that cannot reach
the database is alone. Everything that a notice says is also found by polling.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

import structlog

from captiond.store.backend import NOTICE_BYTES
from captiond.store.engine import Engine, notify
from captiond.store.outage import StorageOutage

log = structlog.get_logger()
PACE_SECONDS = 0.05  # between two transactions; what was said meanwhile shares one
Handler = Callable[[Sequence[str]], None]


class Topic(StrEnum):
    """What a notice is about, and what its items are."""

    CHANGED = "changed"  # ids of tasks with a new revision
    CANCELLED = "cancelled"  # ids of images whose task is cancelled
    ASKED = "asked"  # nothing: an interactive image waits for a node with a model
    ANSWERED = "answered"  # ids of nodes whose interactive images have results
    WITHDRAWN = "withdrawn"  # ids of interactive images whose clients are gone
    REPORTED = "reported"  # nothing: a node has a new report


# A client waits for these, so they are sent at once.
URGENT = frozenset({Topic.ASKED, Topic.ANSWERED, Topic.WITHDRAWN})


class Peers:
    """The other nodes. With SQLite there are none, and nothing is sent.

    `alone` is whether this node was the only one when the database was last asked.
    """

    def __init__(self, engine: Engine, node: str) -> None:
        self.alone = False
        self._engine = engine
        self._node = node
        self._handlers: dict[Topic, Handler] = {}
        self._unsent: dict[Topic, dict[str, None]] = {}
        self._any, self._urgent = asyncio.Event(), asyncio.Event()

    def on(self, topic: Topic, handler: Handler) -> None:
        """Have `handler` called with the items of each notice of another node."""
        self._handlers[topic] = handler

    def say(self, topic: Topic, *items: str) -> None:
        """Send a notice to the other nodes soon."""
        if not self._engine.database.shared or (self.alone and topic is not Topic.REPORTED):
            return
        self._unsent.setdefault(topic, {}).update(dict.fromkeys(items))
        self._any.set()
        if topic in URGENT:
            self._urgent.set()

    async def run_sending(self) -> None:
        """Send what was said, until cancelled."""
        outage = StorageOutage("notices to other nodes")
        while True:
            await self._any.wait()
            self._any.clear()
            self._urgent.clear()
            unsent, self._unsent = self._unsent, {}
            texts = [text for topic in unsent for text in self._texts(topic, unsent[topic])]
            with outage.tolerated():  # a notice that is lost is found by polling
                await notify(self._engine, texts)
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(PACE_SECONDS):
                await self._urgent.wait()
        except TimeoutError:
            return

    async def run_listening(self, on_images: Callable[[], None]) -> None:
        """Receive what other processes say, until cancelled. On SQLite this ends at once.

        `on_images` is called when images of tasks may wait.
        """
        async for text in self._engine.wakeups():
            if text:
                self._receive(text)
            else:
                on_images()

    def _texts(self, topic: Topic, items: Iterable[str]) -> Iterator[str]:
        for some in packed(items, NOTICE_BYTES - len(self._node) - 64):
            yield json.dumps([self._node, topic, *some], separators=(",", ":"))

    def _receive(self, text: str) -> None:
        """Handle a notice. One that cannot be read is from a node of another version."""
        try:
            sender, topic, *items = json.loads(text)
            handler = self._handlers.get(Topic(topic))
        except (ValueError, TypeError):
            log.debug("notice_unreadable", text=text)
            return
        if sender != self._node and handler is not None:
            handler(items)


def packed(items: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield the items in one list or more, whose JSON takes at most `most` bytes each."""
    some: list[str] = []
    size = 0
    for item in items:
        length = len(json.dumps(item)) + 1
        if size + length > most:
            yield some
            some, size = [], 0
        some.append(item)
        size += length
    yield some
