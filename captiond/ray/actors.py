"""The actor of Ray Data that captions images: see `captiond.ray`."""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import ray
from ray.data.block import BlockAccessor

from captiond.bulk.bulk_captioner import BulkCaptioner, BulkResult, bulk_captioner
from captiond.errors import SettingsError
from captiond.references.result_rows import FIELDS, result_fields
from captiond.references.result_tables import result_columns
from captiond.settings.config import Settings
from captiond.settings.sources import load_settings

SettingsLike = Settings | Mapping[str, Mapping[str, Any]] | None


class RayCaptioner:
    """Captions batches of `ray.data.Dataset.map_batches`, with one model on one device.

    Ray makes an object of this class in each actor. The model runs in a process of its own, as in
    the service, and images are decoded in processes with limits. An image that cannot be captioned
    gets an `error` in its row, and no image ends the actor.

    `__call__` is a coroutine, so Ray gives an actor several batches at a time: while the model
    captions one of them, the next one is read and decoded.
    """

    def __init__(
        self,
        *,
        column: str = "uri",
        settings: SettingsLike = None,
        keep_images: bool = False,
        prefix: str = "",
    ) -> None:
        """Load the model. `column` has the addresses of the images, or their bytes.

        `settings` are those of `captiond.toml`, such as `{"model": {"precision": "int8"}}`. Those
        that are not given come from the actor's environment, as `CAPTIOND_MODEL__PRECISION`. A
        column of bytes is not in the output, unless `keep_images` is set. `prefix` is put in front
        of the names of the columns that are added.

        Raises:
            SettingsError: the settings are wrong.
            ModelBroken: the model cannot be loaded.
        """
        self._column = column
        self._keep_images = keep_images
        self._prefix = prefix
        self._settings = for_actor(checked_settings(settings), assigned_cpus())
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        Thread(target=self._loop.run_forever, name="captiond", daemon=True).start()
        self._captioner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> BulkCaptioner:
        """Start the model process in the loop that all images go through.

        The kernel ends a model process with the thread that has started it, so this thread must not
        end before the actor does.
        """
        device = self._settings.model.devices[0]
        entered = bulk_captioner(self._settings, device)
        captioner = await self._stack.enter_async_context(entered)
        try:
            await captioner.model()
        except BaseException:
            await self._stack.aclose()
            raise
        return captioner

    async def __call__(self, batch: Any) -> pa.Table:
        """Return the columns of a batch, and the results of its images as further columns."""
        table = as_table(batch)
        self._check(table.column_names)
        images = table.column(self._column).to_pylist()
        work = asyncio.run_coroutine_threadsafe(self._caption(images), self._loop)
        results = await asyncio.wrap_future(work)
        if not self._keep_images and holds_bytes(table.column(self._column).type):
            table = table.drop_columns([self._column])
        rows = [result_fields(each.outcome, each.sha256) for each in results]
        for name, values in result_columns(rows).items():
            table = table.append_column(self._prefix + name, values)
        return table

    async def _caption(self, images: Sequence[bytes | str | None]) -> list[BulkResult]:
        return await asyncio.gather(*(self._caption_one(image) for image in images))

    async def _caption_one(self, image: bytes | str | None) -> BulkResult:
        if isinstance(image, str):
            return await self._captioner.caption_at(image)
        return await self._captioner.caption_bytes(image)

    def _check(self, columns: Sequence[str]) -> None:
        if self._column not in columns:
            raise SettingsError(f"there is no column {self._column}, only {', '.join(columns)}")
        added = {f"{self._prefix}{name}" for name in FIELDS}
        if taken := sorted(added.intersection(columns)):
            raise SettingsError(
                f"there is a column {taken[0]} already; choose other names with prefix"
            )


def as_table(batch: Any) -> pa.Table:
    """Return a batch of any format that Ray has as a table of Arrow."""
    if isinstance(batch, pa.Table):
        return batch
    return BlockAccessor.for_block(BlockAccessor.batch_to_block(batch)).to_arrow()


def holds_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def checked_settings(settings: SettingsLike) -> Settings:
    """Return the settings of an actor, see `RayCaptioner`.

    Raises:
        SettingsError: they are wrong.
    """
    if not isinstance(settings, Settings):
        file = os.environ.get("CAPTIOND_CONFIG")
        settings = load_settings(
            file=Path(file) if file else None, environ=os.environ, flags=settings or {}
        )
    if len(settings.model.devices) > 1:
        raise SettingsError(
            "[model] device: an actor has one device; run an actor for each, with num_gpus=1"
        )
    return settings


def assigned_cpus() -> int:
    """Return how many cores Ray has assigned to this actor, or 0 if it counts none."""
    return math.ceil(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))


def for_actor(settings: Settings, cpus: int) -> Settings:
    """Return the settings with no more threads and decoders than an actor has cores.

    Each actor would otherwise use all cores of its machine, which it shares with other actors.
    """
    if cpus < 1:
        return settings
    model, images = settings.model, settings.images
    threads, decoders = model.threads or cpus, images.decoders or max(1, cpus - 1)
    return settings.model_copy(
        update={
            "model": model.model_copy(update={"threads": threads}),
            "images": images.model_copy(update={"decoders": decoders}),
        }
    )
