"""Delivers webhooks: what the database owes is tried until it is accepted or given up.

The rows are made by the transaction that ends a task and are written after a try, so whatever dies
in between, a receiver is called at least once. Each host and port has a few calls at a time to
itself: one that hangs or refuses holds up its own deliveries and nobody else's, and what it has not
accepted in the time that all tries take is given up, tried or not.
"""

import asyncio
import contextlib
import json
import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from captiond import __version__
from captiond.callbacks import (
    DeliveryStatus,
    Patience,
    delay_after,
    is_allowed,
    longest_life,
    parse_url,
)
from captiond.config import Settings, WebhookSettings
from captiond.errors import StoreError
from captiond.jobs import TaskView
from captiond.store import deliveries, tasks
from captiond.store.deliveries import Delivery, Tried
from captiond.store.engine import Engine
from captiond.supervisor.outgoing import NoAnswer, Reply, post
from captiond.supervisor.signing import signed_headers, signing_secrets

log = structlog.get_logger()
PER_HOST = 4
POLL_SECONDS = 1.0  # retries fall due, and commands and other processes owe new ones
ROUND_SECONDS = 0.1  # the ends of tries that lie so close are written in one transaction
LOOK_SECONDS = 60.0  # between two looks for what is too old
FIRST_LOOK_SECONDS = 3600.0  # what a long stop has held up is tried for an hour at least
GONE = 410  # Standard Webhooks: the receiver wants no more
Show = Callable[[TaskView], dict[str, Any]]


class Courier:
    """Tries the deliveries that are due. `show` makes a task what clients read of it."""

    def __init__(self, settings: Settings, engine: Engine, show: Show) -> None:
        self._settings = settings
        self._engine = engine
        self._show = show
        self._wake = asyncio.Event()
        self._patience = patience_of(settings.webhooks)
        self._next_look = time.monotonic() + FIRST_LOOK_SECONDS
        self._trying: dict[str, str] = {}
        self._ends: list[Tried] = []

    def prepare(self) -> None:
        """Have the secret ready, so that its file is there before anybody asks for it.

        Raises:
            StartupError: it cannot be had.
        """
        if self._settings.webhooks.allow:
            signing_secrets(self._settings)
            log.info("webhooks_on", allow=self._settings.webhooks.allow)

    def hint(self) -> None:
        """A task has ended; there may be something to deliver."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    self._wake.clear()
                    try:
                        await self._round(group)
                    except StoreError as error:
                        log.error("webhooks_wait", reason=str(error))
                    await self._pause()
            finally:
                with contextlib.suppress(StoreError):
                    await self._record()

    async def _round(self, group: asyncio.TaskGroup) -> None:
        await self._record()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            await self._give_up(now=time.time())
        found = await deliveries.due(
            self._engine, now=time.time(), per_host=PER_HOST, trying=self._trying
        )
        for delivery in found:
            self._trying[delivery.id] = delivery.host
            group.create_task(self._deliver(delivery))

    async def _give_up(self, *, now: float) -> None:
        """End what is too old: a receiver that swallows calls would have it wait for ever."""
        life = longest_life(self._patience, try_seconds=self._settings.webhooks.timeout_seconds)
        hours = math.ceil(life / 3600)
        number = await deliveries.give_up(
            self._engine,
            begun_before=now - hours * 3600,
            error=f"given up: not accepted within {hours} h",
            trying=self._trying,
        )
        if number:
            log.error("webhooks_given_up", number=number, hours=hours)

    async def _pause(self) -> None:
        await asyncio.sleep(ROUND_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()

    async def _record(self) -> None:
        """Write the tries that have ended; from then on they may be tried again."""
        ends = list(self._ends)
        if not ends:
            return
        await deliveries.record(self._engine, ends)
        for end in ends:
            self._ends.remove(end)
            del self._trying[end.delivery_id]

    async def _deliver(self, delivery: Delivery) -> None:
        """One try; whatever goes wrong is its end."""
        begun = time.monotonic()
        reply, problem = None, None
        try:
            reply = await self._call(delivery)
        except NoAnswer as error:
            problem = str(error)
        except Exception as error:
            # A bug that one delivery meets must not end the service, and not this delivery either.
            log.exception("webhook_broken", webhook_id=delivery.id)
            problem = f"{type(error).__name__}: {error}"
        end = self._end_of(delivery, reply, problem, now=time.time())
        log_try(delivery, end, seconds=time.monotonic() - begun)
        self._ends.append(end)
        self._wake.set()

    async def _call(self, delivery: Delivery) -> Reply:
        settings, target = self._settings.webhooks, parse_url(delivery.url)
        if not is_allowed(target, settings.allow):
            raise NoAnswer(f"not called: {target.authority} is not in [webhooks] allow")
        task = await tasks.read_task(self._engine, delivery.task_id)
        if task is None:
            raise NoAnswer("not called: the task is gone")
        body = payload(task, self._show)
        keys = await asyncio.to_thread(signing_secrets, self._settings)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"captiond/{__version__}",
            **signed_headers(keys, delivery.id, time.time(), body),
        }
        return await post(target, headers, body.encode(), seconds=settings.timeout_seconds)

    def _end_of(
        self, delivery: Delivery, reply: Reply | None, problem: str | None, *, now: float
    ) -> Tried:
        attempt, response = delivery.attempts + 1, reply.status if reply else None
        if reply is not None and 200 <= reply.status < 300:
            status, delay = DeliveryStatus.DELIVERED, None
        else:
            delay = self._delay(attempt, reply)
            status = DeliveryStatus.FAILED if delay is None else DeliveryStatus.PENDING
            problem = problem or f"answered {response}"
        due_at = None if delay is None else now + delay
        return Tried(delivery.id, attempt, now, status, due_at, response, problem)

    def _delay(self, attempt: int, reply: Reply | None) -> float | None:
        if reply is not None and reply.status == GONE:
            return None
        asked = reply.retry_after if reply else 0.0
        return delay_after(attempt, self._patience, jitter=random.uniform(-1, 1), asked=asked)


def patience_of(settings: WebhookSettings) -> Patience:
    return Patience(settings.attempts, settings.first_retry_seconds, settings.longest_retry_seconds)


def payload(task: TaskView, show: Show) -> str:
    """The body of a call; the same for each try, because a task that has ended changes no more."""
    assert task.finished_at is not None
    return json.dumps(
        {
            "type": f"task.{task.status.value.lower()}",
            "timestamp": datetime.fromtimestamp(task.finished_at, UTC).isoformat(),
            "data": show(task),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def log_try(delivery: Delivery, end: Tried, *, seconds: float) -> None:
    """One line for each try. The URL's path stays out of it: it may hold a token."""
    bound = log.bind(
        webhook_id=delivery.id,
        task_id=delivery.task_id,
        host=parse_url(delivery.url).authority,
        attempt=end.attempt,
        response=end.response,
        seconds=round(seconds, 3),
    )
    if end.status is DeliveryStatus.DELIVERED:
        bound.info("webhook_delivered")
    elif end.due_at is None:
        bound.error("webhook_given_up", reason=end.error)
    else:
        again = round(end.due_at - end.at, 1)
        bound.warning("webhook_failed", reason=end.error, again_in_seconds=again)
