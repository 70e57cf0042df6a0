"""Delivery of webhooks: each due call is made until the receiver accepts it or it is given up.

The rows of deliveries are created by the transaction that finishes a task or an import, and are
updated after each call. Whatever dies in between, a receiver is called at least once. Each host and
port has a few concurrent calls of its own, so a receiver that hangs or refuses delays only its own
deliveries. A delivery that is older than all its calls can take is given up, even if it was never
tried.
"""

import asyncio
import contextlib
import math
import random
import time
from typing import TYPE_CHECKING

import structlog

from captiond import __version__
from captiond.callbacks import (
    DeliveryStatus,
    RetrySchedule,
    delay_after,
    is_allowed,
    longest_life,
    parse_url,
)
from captiond.errors import StartupError, StorageFailed, StoreError
from captiond.metrics import WEBHOOK_CALLS, WEBHOOK_SECONDS
from captiond.recording import Recorder
from captiond.settings.config import Settings, WebhookSettings
from captiond.store import deliveries, snapshots
from captiond.store.deliveries import Attempt, Delivery
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.supervisor.outgoing import NoResponse, ResponseHead, post
from captiond.supervisor.payloads import Payloads
from captiond.supervisor.signing import signed_headers, signing_secrets
from captiond.supervisor.steadyclock import SteadyClock

if TYPE_CHECKING:
    from captiond.spans import Traces

log = structlog.get_logger()
PER_HOST = 4  # concurrent calls
POLL_SECONDS = 1.0  # retries become due, and commands and other processes add deliveries
ROUND_SECONDS = 0.1  # calls that finish within this time are recorded in one transaction
CHECK_SECONDS = 60.0  # between two checks of the times of all deliveries
FIRST_GIVE_UP_SECONDS = 3600.0  # until one is given up: those that a long stop delayed get an hour
RESERVE_SECONDS = 30.0  # after a call, until another node may try the delivery; it is recorded
GONE = 410  # the receiver wants no more calls (Standard Webhooks)


class Courier:
    """Makes the calls that are due. `traces` is None if traces are off."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        payloads: Payloads,
        clock: SteadyClock,
        recorder: Recorder | None = None,
        traces: "Traces | None" = None,
    ) -> None:
        self._traces = traces
        self._settings = settings
        self._engine = engine
        self._payloads = payloads
        self._clock = clock
        self._recorder = recorder or Recorder()
        self._wake = asyncio.Event()
        self._policy = retry_policy(settings.webhooks)
        self._next_check = 0.0
        self._give_up_from = time.monotonic() + FIRST_GIVE_UP_SECONDS
        self._trying: dict[str, str] = {}
        self._tried: list[Attempt] = []

    def prepare(self) -> None:
        """Create the secret if there is none, so that receivers can be given it in advance.

        Raises:
            StartupError: it cannot be created or read.
        """
        if self._settings.webhooks.allow:
            signing_secrets(self._settings)
            log.info("webhooks_on", allow=self._settings.webhooks.allow)

    def hint(self) -> None:
        """Search for due deliveries soon: a task has finished."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        outage = StorageOutage("delivery of webhooks")
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    self._wake.clear()
                    with outage.tolerated():
                        await self._round(group)
                    await self._pause()
            finally:
                with contextlib.suppress(StoreError):
                    await self._record()

    async def _round(self, group: asyncio.TaskGroup) -> None:
        await self._record()
        now = self._clock.wall()
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + CHECK_SECONDS
            # guard: clock-set-back
            await deliveries.bring_forward(self._engine, now=now)
            await self._give_up(now=await self._clock.now())
        due = await deliveries.due(
            self._engine,
            now=now,
            per_host=PER_HOST,
            trying=self._trying,
            reserve_seconds=self._settings.webhooks.timeout_seconds + RESERVE_SECONDS,
        )
        keys = await self._secrets() if due else []
        for delivery in due:
            self._trying[delivery.id] = delivery.host
            group.create_task(self._deliver(delivery, keys))

    async def _secrets(self) -> list[str]:
        """Return the secrets that sign the calls. Nobody is called while they cannot be read.

        Raises:
            StorageFailed: the file of the secret cannot be used, or no thread can be started.
        """
        try:
            return await asyncio.to_thread(signing_secrets, self._settings)
        except (StartupError, RuntimeError) as error:
            raise StorageFailed(str(error)) from error

    async def _give_up(self, *, now: float) -> None:
        """Give up deliveries that are too old at the time `now` of the steady clock.

        Without this, a receiver that accepts connections and never answers would keep its backlog
        for ever.
        """
        if time.monotonic() < self._give_up_from:
            return
        life = longest_life(self._policy, try_seconds=self._settings.webhooks.timeout_seconds)
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
        """Write the results of finished calls. From then on these deliveries may be tried again."""
        tried = list(self._tried)
        if not tried:
            return
        await deliveries.record(self._engine, tried)
        for one in tried:
            self._tried.remove(one)
            del self._trying[one.delivery_id]

    async def _deliver(self, delivery: Delivery, keys: list[str]) -> None:
        """Make one call. Whatever goes wrong is a failed call, and nothing more."""
        begun = time.monotonic()
        response, problem = None, None
        try:
            response = await self._call(delivery, keys)
        except NoResponse as error:
            problem = str(error)
        except StoreError as error:  # the receiver has not been called, so this is no attempt
            log.warning("webhook_waits", webhook_id=delivery.id, reason=str(error))
            del self._trying[delivery.id]
            return
        except Exception as error:
            # A defect that one delivery triggers must end neither the service nor the delivery.
            log.exception("webhook_broken", webhook_id=delivery.id)
            problem = f"{type(error).__name__}: {error}"
        tried = self._result_of(delivery, response, problem, now=self._clock.wall())
        seconds = time.monotonic() - begun
        self._recorder.count(WEBHOOK_CALLS, outcome_of(tried))
        self._recorder.observe(WEBHOOK_SECONDS, seconds)
        log_call(delivery, tried, seconds=seconds)
        self._tried.append(tried)
        self._wake.set()

    async def _call(self, delivery: Delivery, keys: list[str]) -> ResponseHead:
        """Call the receiver with a signature of each key, and return the head of its response.

        Raises:
            NoResponse: there is none, or the call is not made.
        """
        settings, target = self._settings.webhooks, parse_url(delivery.url)
        if not is_allowed(target, settings.allow):
            raise NoResponse(f"not called: {target.authority} is not in [webhooks] allow")
        body = await self._payloads.of(delivery)
        if body is None:
            raise NoResponse("not called: the task or the import is gone")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"captiond/{__version__}",
            **signed_headers(keys, delivery.id, self._clock.wall(), body),
        }
        if self._traces is None:
            return await post(target, headers, body.encode(), seconds=settings.timeout_seconds)
        origin = await snapshots.read_origin(self._engine, delivery.task_id or "")
        with self._traces.webhook(origin, target.authority) as call:
            headers |= call.headers
            seconds = settings.timeout_seconds
            response = await post(target, headers, body.encode(), seconds=seconds)
            call.answered(response.status)
            return response

    def _result_of(
        self,
        delivery: Delivery,
        response: ResponseHead | None,
        problem: str | None,
        *,
        now: float,
    ) -> Attempt:
        """Return the result of a call: the delivery's status, and when it is due again."""
        attempt, code = delivery.attempts + 1, response.status if response else None
        if response is not None and 200 <= response.status < 300:
            status, delay = DeliveryStatus.DELIVERED, None
        else:
            delay = self._delay(attempt, response)
            status = DeliveryStatus.FAILED if delay is None else DeliveryStatus.PENDING
            problem = problem or f"answered {code}"
        due_at = None if delay is None else now + delay
        return Attempt(delivery.id, attempt, now, status, due_at, code, problem)

    def _delay(self, attempt: int, response: ResponseHead | None) -> float | None:
        """Return the seconds until the next call, or None if there is none."""
        if response is not None and response.status == GONE:
            return None
        asked = response.retry_after if response else 0.0
        return delay_after(attempt, self._policy, jitter=random.uniform(-1, 1), retry_after=asked)


def retry_policy(settings: WebhookSettings) -> RetrySchedule:
    """Return how often and how long a delivery is tried."""
    return RetrySchedule(
        settings.attempts, settings.first_retry_seconds, settings.longest_retry_seconds
    )


def outcome_of(tried: Attempt) -> str:
    """Return the outcome of a call, as the metric `WEBHOOK_CALLS` names it."""
    if tried.status is DeliveryStatus.DELIVERED:
        return "delivered"
    return "given_up" if tried.due_at is None else "failed"


def log_call(delivery: Delivery, tried: Attempt, *, seconds: float) -> None:
    """Log one call. The path of the URL is left out because it may hold a token."""
    about = {"task_id": delivery.task_id} if delivery.task_id else {"import_id": delivery.import_id}
    bound = log.bind(
        webhook_id=delivery.id,
        **about,
        host=parse_url(delivery.url).authority,
        attempt=tried.attempt,
        response=tried.response,
        seconds=round(seconds, 3),
    )
    if tried.status is DeliveryStatus.DELIVERED:
        bound.info("webhook_delivered")
    elif tried.due_at is None:
        bound.error("webhook_given_up", reason=tried.error)
    else:
        again = round(tried.due_at - tried.at, 1)
        bound.warning("webhook_failed", reason=tried.error, again_in_seconds=again)
