"""The parts of a job of Ray that need no cluster, and the example for Kubernetes."""

from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import yaml

from captiond.errors import SettingsError
from captiond.ray.actors import as_table, checked_settings, for_actor, holds_bytes
from captiond.ray.address_source import AddressSource
from captiond.ray.caption_job import ActorPool, CaptionJob, actor_pool
from captiond.settings.config import ImageSettings, ModelSettings, Settings
from tests.unit.test_docs import find_command

MANIFEST = Path(__file__).parents[2] / "config" / "ray" / "rayjob.yaml"
HEAD, GPUS_2, CPUS_8 = {"CPU": 1.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}


def machine(resources: dict[str, float], *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


def job(**options: Any) -> CaptionJob:
    return CaptionJob(["/photos"], "/captions", **options)


@pytest.mark.parametrize(
    ("machines", "options", "expected"),
    [
        ([CPUS_8], {}, ActorPool(1, 7.5, 0)),
        ([CPUS_8, CPUS_8, {}], {}, ActorPool(2, 7.5, 0)),
        ([CPUS_8], {"actors": 3}, ActorPool(3, 2.5, 0)),
        ([CPUS_8], {"cpus": 2.0}, ActorPool(1, 2.0, 0)),
        ([HEAD, GPUS_2, GPUS_2], {}, ActorPool(4, 3.75, 1)),
        ([HEAD, GPUS_2], {"actors": 1, "cpus": 6.0}, ActorPool(1, 6.0, 1)),
        ([HEAD, GPUS_2], {"actors": 4}, ActorPool(4, 1.875, 0.5)),
        ([HEAD, GPUS_2], {"actors": 3}, ActorPool(3, 2.5, 0.5)),
    ],
)
def test_actors_share_the_cores_of_their_machines(
    machines: list[dict[str, float]], options: dict[str, Any], expected: ActorPool
) -> None:
    nodes = [*map(machine, machines), machine(GPUS_2, alive=False)]
    assert actor_pool(job(**options), nodes) == expected


def test_a_cluster_without_a_core_is_an_error() -> None:
    with pytest.raises(SettingsError, match="no machine"):
        actor_pool(job(), [machine({})])


def test_an_actor_uses_the_cores_that_it_has_unless_settings_say_otherwise() -> None:
    own = for_actor(Settings(), 6)
    assert (own.model.threads, own.images.decoders) == (6, 5)
    assert for_actor(Settings(), 0) == Settings()
    chosen = Settings(model=ModelSettings(threads=2), images=ImageSettings(decoders=3))
    assert for_actor(chosen, 6) == chosen


def test_settings_of_an_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIOND_MODEL__NAME", "of/environment")
    assert checked_settings(None).model.name == "of/environment"
    assert checked_settings({"model": {"name": "given"}}).model.name == "given"
    with pytest.raises(SettingsError, match="an actor has one device"):
        checked_settings({"model": {"device": "cuda:0,cuda:1"}})
    with pytest.raises(SettingsError, match="nmae"):
        checked_settings({"model": {"nmae": "x"}})


def test_a_batch_of_any_format_is_a_table() -> None:
    table = as_table({"image": np.array([b"1", b"2"], dtype=object), "id": np.array([1, 2])})
    assert table.to_pylist() == [{"image": b"1", "id": 1}, {"image": b"2", "id": 2}]
    assert as_table(table) is table
    assert as_table(table.to_pandas()).to_pylist() == table.to_pylist()
    assert holds_bytes(table.schema.field("image").type)
    assert not holds_bytes(pa.string())


def test_each_source_is_read_by_a_task(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with chdir(tmp_path):  # the workers of a cluster have other folders
        source = AddressSource([str(tmp_path), "b.png"], "uri")
    read = [[table.to_pylist() for table in task()] for task in source.get_read_tasks(200)]
    a, b = ({"uri": str(tmp_path / name)} for name in ("a.png", "b.png"))
    assert read == [[[a, b]], [[b]]]


def test_the_job_for_kubernetes_fits_this_version() -> None:
    spec = yaml.safe_load(MANIFEST.read_text())["spec"]
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__
    program, *words = spec["entrypoint"].split()
    command, arguments = find_command(words)
    assert program == "captiond"
    command.make_context("ray", arguments)
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
