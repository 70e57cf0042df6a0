"""Captions that are known already: in the cache, or computed at this moment for an equal image."""

import time
from collections.abc import Iterable
from dataclasses import replace

import structlog

from captiond.errors import StoreError
from captiond.jobs import Captioned
from captiond.messages import Work
from captiond.store import captions as cache
from captiond.store.engine import Engine
from captiond.store.together import Together
from captiond.translation.translations import in_english
from captiond.worker.recipe import Recipe
from captiond.worker.underway import UnderWay

log = structlog.get_logger()


class KnownCaptions:
    """Finds captions of the same bytes and recipe. An error of the cache is only logged."""

    def __init__(self, recipe: Recipe, engine: Engine) -> None:
        self._recipe = recipe
        self._engine = engine
        self._cache = Together[str, Captioned | None](lambda keys: cache.look_up(engine, keys))
        self._under_way = UnderWay[Captioned]()

    async def look_up(self, work: Work) -> Captioned | None:
        """Return the caption of an equal image, with all its tags, or None.

        It waits for an equal image of the same client and lane that is being captioned. If the
        answer is None, equal images wait for this work, so `publish` and `leave` must follow.
        """
        if not self._recipe.is_cacheable(work):
            return None
        key = self._key(work)
        # An interactive image does not wait for an equal image of the bulk lane, nor for one of
        # another client, which may be behind a thousand images of that client.
        # guard: lanes-do-not-share
        turn = f"{work.lane.value}\0{work.client.name}\0{key}"
        shared = await self._under_way.join(turn, work.ticket)
        if shared is not None:
            return replace(shared, cached=True)
        try:
            return await self._cache.ask(key)
        except StoreError as error:
            log.warning("cache_unreadable", reason=str(error))
            return None

    async def look_up_english(self, work: Work) -> Captioned | None:
        """Return the cached English caption of an image that is to be captioned in another
        language, or None.
        """
        if not self._recipe.is_cacheable(work) or self._recipe.language_of(work) is None:
            return None
        try:
            return await self._cache.ask(self._english_key(work))
        except StoreError as error:
            log.warning("cache_unreadable", reason=str(error))
            return None

    def publish(self, work: Work, caption: Captioned | None) -> None:
        """Give a caption, or None, to the equal images that wait for this work."""
        self._under_way.publish(work.ticket, caption)

    async def store(self, captions: Iterable[tuple[Work, Captioned]]) -> None:
        """Store new captions in the cache, those that may be cached. One that was translated is
        stored in English as well.
        """
        entries: dict[str, Captioned] = {}
        for work, caption in captions:
            if not self._recipe.is_cacheable(work):
                continue
            entries[self._key(work)] = caption
            if caption.caption_language is not None:
                entries.setdefault(self._english_key(work), in_english(caption))
        try:
            await cache.remember(self._engine, entries, now=time.time())
        except StoreError as error:
            log.warning("cache_unwritable", reason=str(error))

    def leave(self, work: Work) -> None:
        """Let equal images read the cache from now on."""
        self._under_way.leave(work.ticket)

    def _english_key(self, work: Work) -> str:
        return cache.cache_key(work.image.sha256, self._recipe.english_key(work))

    def _key(self, work: Work) -> str:
        return cache.cache_key(work.image.sha256, self._recipe.cache_key(work))
