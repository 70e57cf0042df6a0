"""`captiond ray`: captions the images of some sources on a cluster of Ray.

Ray keeps a checkpoint beside the results: the addresses whose results are in a finished file. A job
that is started again leaves these images out, and first removes the files that were not finished.
"""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig
from ray.exceptions import RayError

from captiond.errors import ModelBroken, SettingsError
from captiond.ray.actors import RayCaptioner, checked_settings
from captiond.ray.address_source import AddressSource
from captiond.ray.jsonl_sink import JsonlSink
from captiond.references.addresses import absolute_place
from captiond.references.manifests import COLUMN
from captiond.settings.config import Settings

CHECKPOINT = "_checkpoint"  # readers of a folder of Parquet files skip names with an underscore
# Of addresses in a task for an actor, some 700 of them. An actor that dies repeats its tasks.
BLOCK_BYTES = 64 * 1024
TASKS_AT_ONCE = 2  # of an actor: while the last images of one are captioned, the next one is read
SMALL_TASK = 0.1  # of a core: reading addresses and writing results
LEFT_CPUS = 0.5  # of each machine, for these tasks


@dataclass(frozen=True, slots=True)
class CaptionJob:
    """What a job captions, where its results go, and what it may use of the cluster.

    `actors` is None for one on each GPU, or on each machine if there is no GPU. `cpus` is None for
    an equal share of the cores. A file of results has about `rows` rows.
    """

    sources: Sequence[str]
    output: str
    column: str = COLUMN
    form: Literal["parquet", "jsonl"] = "parquet"
    address: str | None = None
    actors: int | None = None
    cpus: float | None = None
    batch: int = 64
    rows: int = 1000


@dataclass(frozen=True, slots=True)
class ActorPool:
    """How many actors there are, and what Ray reserves for each of them.

    If there are more actors than GPUs, each has an equal part of one.
    """

    actors: int
    cpus: float
    gpus: float


def run_job(job: CaptionJob, settings: Settings) -> None:
    """Caption all images that have no result yet. Blocking.

    Raises:
        SettingsError: settings, sources or the output are wrong.
        ModelBroken: the job failed; the message is Ray's.
    """
    settings = checked_settings(settings)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # captiond reports to nobody
    # Without an address, Ray would join any cluster that runs on this machine.
    ray.init(address=job.address or "local", include_dashboard=False, logging_level=logging.WARNING)
    try:
        write(captioned(job, settings), job)
    except RayError as error:
        raise ModelBroken(f"the job failed: {innermost(error)}") from error
    finally:
        ray.shutdown()


def captioned(job: CaptionJob, settings: Settings) -> Dataset:
    """Return the dataset of the results. Nothing is read before it is written."""
    pool = actor_pool(job, ray.nodes())
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    output = absolute_place(job.output)
    context.checkpoint_config = CheckpointConfig(
        id_column=COLUMN,
        checkpoint_path=f"{output}/{CHECKPOINT}",
        delete_checkpoint_on_success=False,
    )
    images = ray.data.read_datasource(
        AddressSource(job.sources, job.column),
        override_num_blocks=len(job.sources),
        num_cpus=SMALL_TASK,
    )
    return images.map_batches(
        RayCaptioner,
        batch_size=job.batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.actors, max_concurrent_calls_per_actor=TASKS_AT_ONCE),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        fn_constructor_kwargs={"settings": settings, "column": COLUMN},
    )


def write(results: Dataset, job: CaptionJob) -> None:
    """Write the results as they come."""
    output = absolute_place(job.output)
    small = {"num_cpus": SMALL_TASK}
    if job.form == "jsonl":
        sink = JsonlSink(output, min_rows_per_file=job.rows)
        results.write_datasink(sink, ray_remote_args=small)
    else:
        results.write_parquet(output, min_rows_per_file=job.rows, ray_remote_args=small)


def actor_pool(job: CaptionJob, nodes: Sequence[dict[str, object]]) -> ActorPool:
    """Return the actors of a job on these machines of a cluster.

    Raises:
        SettingsError: nothing could run an actor.
    """
    alive = [resources_of(node) for node in nodes if node["Alive"]]
    gpus = int(sum(resources.get("GPU", 0) for resources in alive))
    machines = [each for each in alive if each.get("GPU" if gpus else "CPU", 0)]
    if not machines:
        raise SettingsError("the cluster has no machine with a core")
    actors = job.actors or gpus or len(machines)
    on_each = math.ceil(actors / len(machines))
    fewest = min(resources.get("CPU", 0) for resources in machines)
    cpus = job.cpus if job.cpus is not None else max(0.0, (fewest - LEFT_CPUS) / on_each)
    return ActorPool(actors, cpus, 1 / math.ceil(actors / gpus) if gpus else 0.0)


def resources_of(node: dict[str, object]) -> dict[str, float]:
    resources = node["Resources"]
    assert isinstance(resources, dict)
    return resources


def innermost(error: BaseException) -> str:
    """Return the last line of an error of Ray, which is that of its cause."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
