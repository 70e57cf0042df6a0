"""Metrics are recorded in each process and added up in one."""

import re

import pytest

from captiond.metrics import (
    BATCH_IMAGES,
    BATCHES,
    IMAGES,
    METRICS,
    Counter,
    Histogram,
    Recorder,
    Registry,
)


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


def test_labels_must_be_those_of_the_metric() -> None:
    with pytest.raises(ValueError, match="labels"):
        Recorder().count(BATCHES, "model0")


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Counter | Histogram) -> None:
    assert re.fullmatch(r"captiond_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") is isinstance(metric, Counter)
    assert metric.description.endswith(".")
