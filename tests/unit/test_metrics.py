"""Metrics are recorded in each process and added up in one."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond import metrics
from captiond.metrics import (
    BATCH_IMAGES,
    BATCHES,
    CONNECTIONS,
    IMAGES,
    METRICS,
    PROCESSES,
    SPOOL_BYTES,
    Counter,
    Metric,
)
from captiond.recording import Recorder, Registry
from captiond.supervisor.metricsfile import MetricsFile
from tests.patience import PATIENCE


async def nothing() -> None:
    """Bring nothing up to date."""


def test_counts_of_several_processes_are_added_up() -> None:
    registry, one, other = Registry(), Recorder(), Recorder()
    one.count(BATCHES, "model0", "bulk")
    one.count(BATCHES, "model0", "bulk", amount=2)
    other.count(BATCHES, "model1", "bulk")
    for recorder in (one, other, one):  # the second take of `one` is empty
        registry.add(recorder.take())
    assert registry.total.counts == {
        (BATCHES.name, ("model0", "bulk")): 3,
        (BATCHES.name, ("model1", "bulk")): 1,
    }


def test_a_value_counts_in_the_first_interval_that_holds_it() -> None:
    registry, recorder = Registry(), Recorder()
    for value in (1.0, 1.5, 2.0, 1000.0):
        recorder.observe(BATCH_IMAGES, value, "model0", "bulk")
    registry.add(recorder.take())
    recorder.observe(BATCH_IMAGES, 4.0, "model0", "bulk")
    registry.add(recorder.take())
    (distribution,) = registry.total.distributions.values()
    assert distribution.counts == [1, 2, 1, 0, 0, 0, 0, 0, 0, 1]
    assert len(distribution.counts) == len(IMAGES) + 1
    assert distribution.sum == 1008.5


def test_no_two_metrics_have_one_name() -> None:
    """A snapshot looks up the labels of each series by the name."""
    declared = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert declared == list(METRICS.values())


def test_the_gauges_of_several_processes_are_added_up_until_they_exit() -> None:
    registry, recorders = Registry(), {name: Recorder() for name in ("web0-a", "web1-b")}
    for name, recorder in recorders.items():
        recorder.watch(CONNECTIONS, iter([3, 3, 5]).__next__)
        registry.add(recorder.take(), name)
    assert registry.total.gauges == {(CONNECTIONS.name, ()): 6}
    assert not recorders["web0-a"].take(), "a gauge that has not changed is not sent again"
    registry.add(recorders["web0-a"].take(), "web0-a")
    assert registry.total.gauges == {(CONNECTIONS.name, ()): 8}
    registry.forget("web1-b")
    assert registry.total.gauges == {(CONNECTIONS.name, ()): 5}


def test_a_gauge_that_is_set_as_a_whole_has_no_other_series() -> None:
    registry = Registry()
    registry.set(SPOOL_BYTES, 9)
    registry.set_all(PROCESSES, {("web",): 2, ("model",): 1})
    registry.set_all(PROCESSES, {("web",): 3})
    assert registry.total.gauges == {(SPOOL_BYTES.name, ()): 9, (PROCESSES.name, ("web",)): 3}


def test_labels_must_be_those_of_the_metric() -> None:
    with pytest.raises(ValueError, match="labels"):
        Recorder().count(BATCHES, "model0")


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"captiond_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") is isinstance(metric, Counter)
    assert metric.description.endswith(".")


def test_a_snapshot_has_all_series_as_json_has_them() -> None:
    registry, recorder = Registry(), Recorder()
    recorder.count(BATCHES, "model0", "bulk")
    recorder.observe(BATCH_IMAGES, 2.0, "model0", "bulk")
    registry.add(recorder.take())
    for size in (9, 7):
        registry.set(SPOOL_BYTES, size)
    labels = {"process": "model0", "lane": "bulk"}
    assert json.loads(json.dumps(registry.snapshot())) == [
        {"name": "captiond_batches_total", "labels": labels, "value": 1.0},
        {"name": "captiond_spool_bytes", "labels": {}, "value": 7},
        {
            "name": "captiond_batch_images",
            "labels": labels,
            "bounds": list(IMAGES),
            "counts": [0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            "sum": 2.0,
        },
    ]


@pytest.mark.anyio
async def test_the_file_is_written_when_it_is_requested(tmp_path: Path) -> None:
    """A reader that removes the file and then asks for it reads what is true after that."""
    path, registry, refreshed = tmp_path / "metrics.json", Registry(), 0

    async def refresh() -> None:
        nonlocal refreshed
        refreshed += 1
        registry.set(SPOOL_BYTES, refreshed)

    file = MetricsFile(path, registry, refresh)
    work = asyncio.create_task(file.run())
    async with asyncio.timeout(PATIENCE):
        for number in (1, 2):
            file.request()
            while not path.exists():  # noqa: ASYNC110 - a file has no event to wait for
                await asyncio.sleep(0.001)
            (series,) = json.loads(path.read_text())
            assert series["value"] == number
            path.unlink()
    work.cancel()


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    file = MetricsFile(folder / "metrics.json", Registry(), nothing)
    work = asyncio.create_task(file.run())
    with capture_logs() as logged:
        file.request()
        async with asyncio.timeout(PATIENCE):
            while not logged:  # noqa: ASYNC110 - a log line has no event to wait for
                await asyncio.sleep(0.001)
    assert logged[0]["event"] == "metrics_not_written"
    folder.mkdir()
    file.request()
    async with asyncio.timeout(PATIENCE):
        while not (folder / "metrics.json").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    work.cancel()
