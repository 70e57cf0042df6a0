"""The gauges of the service: they are set when somebody reads the metrics."""

import asyncio
import platform
import time
from contextlib import suppress

import captiond
from captiond.jobs import Lane
from captiond.messages import Health, State
from captiond.metrics import (
    BUILD_INFO,
    DATABASE_BYTES,
    HEALTH,
    IMAGES_IN_PROGRESS,
    IMPORT_SHARDS,
    MODEL_INFO,
    QUEUE_IMAGES,
    QUEUE_OLDEST_SECONDS,
    READY,
    START_TIME,
    WEBHOOKS_PENDING,
)
from captiond.recording import Labels, Recorder, Registry
from captiond.settings.config import Settings
from captiond.store.engine import Engine
from captiond.store.figures import StoreFigures, store_figures
from captiond.store.outage import StorageOutage
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.processfigures import ProcessFigures
from captiond.supervisor.roster import Roster
from captiond.supervisor.statusboard import StatusBoard

PAUSE_SECONDS = 1.0  # between two readings of the database, at least
PAUSE = 20  # times the duration of the last reading
DATABASE_SECONDS = 1.0  # that a reading may take; then the last numbers stay


class Gauges:
    """Brings the registry of the supervisor up to date."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        recorder: Recorder,
        dispatcher: Dispatcher,
        status: StatusBoard,
        roster: Roster,
        engine: Engine,
    ) -> None:
        self._registry = registry
        self._recorder = recorder
        self._dispatcher = dispatcher
        self._status = status
        self._engine = engine
        self._processes = ProcessFigures(registry, recorder, roster)
        self._outage = StorageOutage("reading of metrics")
        self._stored = StoreFigures(0, None, 0, 0)
        self._next_reading = 0.0
        registry.set(BUILD_INFO, 1, captiond.__version__, platform.python_version())
        registry.set(START_TIME, time.time())

    async def refresh(self) -> None:
        """Set all gauges, and add what the supervisor itself has measured."""
        await self._read_database()
        self._set_state(self._status.state)
        self._set_queues(time.monotonic(), time.time())
        self._processes.measure()
        self._registry.add(self._recorder.take())

    async def _read_database(self) -> None:
        """Read the database, unless it was read a moment ago or takes too long."""
        begun = time.monotonic()
        if begun < self._next_reading:
            return
        with self._outage.tolerated(), suppress(TimeoutError):
            async with asyncio.timeout(DATABASE_SECONDS):
                self._stored = await store_figures(self._engine)
        now = time.monotonic()
        self._next_reading = now + max(PAUSE_SECONDS, PAUSE * (now - begun))

    def _set_state(self, state: State) -> None:
        self._registry.set(READY, state.reported_health is Health.HEALTHY)
        for health in Health:
            self._registry.set(HEALTH, state.reported_health is health, health)
        self._registry.set_all(MODEL_INFO, model_labels(state))

    def _set_queues(self, monotonic: float, now: float) -> None:
        dispatcher, stored = self._dispatcher, self._stored
        since, oldest = dispatcher.waiting_since, stored.oldest
        ages = {
            Lane.INTERACTIVE: 0.0 if since is None else monotonic - since,
            Lane.BULK: 0.0 if oldest is None else max(0.0, now - oldest),
        }
        in_progress = {lane: dispatcher.in_progress(lane) for lane in ages}
        waiting = {
            Lane.INTERACTIVE: dispatcher.waiting,
            Lane.BULK: stored.waiting,
        }
        for lane in ages:
            self._registry.set(QUEUE_OLDEST_SECONDS, ages[lane], lane)
            self._registry.set(IMAGES_IN_PROGRESS, in_progress[lane], lane)
            self._registry.set(QUEUE_IMAGES, waiting[lane], lane)
        for state, shards in stored.shards.items():
            self._registry.set(IMPORT_SHARDS, shards, state)
        self._registry.set(WEBHOOKS_PENDING, stored.webhooks)
        self._registry.set(DATABASE_BYTES, stored.size)


def model_labels(state: State) -> dict[Labels, float]:
    """Return the labels of the model that captions, none if there is no model now."""
    model = state.model
    if model is None or state.health is not Health.HEALTHY:
        return {}
    return {(model.name, model.device, model.precision, str(model.is_fallback).lower()): 1}
