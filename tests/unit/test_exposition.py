"""Metrics as text, read with the parsers of prometheus_client."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from captiond.metrics import (
    BATCH_IMAGES,
    IMAGES,
    IMAGES_FINISHED,
    METRICS,
    MODEL_INFO,
    SPOOL_BYTES,
    STAGE_SECONDS,
    Counter,
)
from captiond.recording import Measurements, Recorder, Registry
from captiond.web.exposition import TextFormat, exposition, wanted_format

NAME = 'a "model"\\of\nours'
Parse = Callable[[str], Iterable[Family]]
PARSERS = [(TextFormat.PROMETHEUS, plain), (TextFormat.OPENMETRICS, open_metrics)]


def measured() -> Measurements:
    registry, recorder = Registry(), Recorder()
    recorder.count(IMAGES_FINISHED, "bulk", "captioned", amount=3)
    recorder.count(IMAGES_FINISHED, "bulk", "corrupt_image")
    for images in (1.0, 2.0, 300.0):
        recorder.observe(BATCH_IMAGES, images, "model0", "bulk")
    recorder.observe(STAGE_SECONDS, 0.0000123, "decode")
    registry.add(recorder.take())
    registry.set(SPOOL_BYTES, 123456789012)
    registry.set(MODEL_INFO, True, NAME, "cpu", "fp32", "false")
    return registry.total


def values(text: str, parse: Parse) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(("chosen", "parse"), PARSERS)
def test_prometheus_reads_every_value(chosen: TextFormat, parse: Parse) -> None:
    found = values(exposition(measured(), chosen), parse)
    lane = ("lane", "bulk")
    assert found[IMAGES_FINISHED.name, (lane, ("outcome", "captioned"))] == 3
    assert found[IMAGES_FINISHED.name, (lane, ("outcome", "corrupt_image"))] == 1
    assert found[SPOOL_BYTES.name, ()] == 123456789012
    labels = {"model": NAME, "device": "cpu", "precision": "fp32", "fallback": "false"}
    assert found[MODEL_INFO.name, tuple(sorted(labels.items()))] == 1
    of_batches = (lane, ("process", "model0"))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == f"{BATCH_IMAGES.name}_bucket"
    }
    assert buckets == {1: 1, **dict.fromkeys(IMAGES[1:], 2), float("inf"): 3}
    assert found[f"{BATCH_IMAGES.name}_count", of_batches] == 3
    assert found[f"{BATCH_IMAGES.name}_sum", of_batches] == 303
    assert found[f"{STAGE_SECONDS.name}_sum", (("stage", "decode"),)] == 0.0000123


@pytest.mark.parametrize(("chosen", "parse"), PARSERS)
def test_every_metric_is_there_before_anything_was_measured(
    chosen: TextFormat, parse: Parse
) -> None:
    families = {family.name: family for family in parse(exposition(Measurements(), chosen))}
    assert len(families) == len(METRICS)
    for metric in METRICS.values():
        family = families[metric.name.removesuffix("_total")]
        first = [*metric.first_series] if isinstance(metric, Counter) else []
        assert [(sample.value, len(sample.labels)) for sample in family.samples] == [
            (0, len(metric.labels))
        ] * len(first)
        assert family.documentation == metric.description
        assert family.type == type(metric).__name__.lower()
        assert not isinstance(metric, Counter) or metric.name == f"{family.name}_total"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TextFormat.PROMETHEUS),
        ("*/*", TextFormat.PROMETHEUS),
        ("text/html, */*;q=0.8", TextFormat.PROMETHEUS),
        ("text/plain;version=0.0.4", TextFormat.PROMETHEUS),
        ("application/openmetrics-text", TextFormat.OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", TextFormat.OPENMETRICS),
        ("application/openmetrics-text;q=0", TextFormat.PROMETHEUS),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.5", TextFormat.PROMETHEUS),
        ("application/openmetrics-text;version=x;q=much", TextFormat.PROMETHEUS),
        (  # Prometheus 2.42
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            TextFormat.OPENMETRICS,
        ),
        (  # Prometheus 3
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
            "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            TextFormat.OPENMETRICS,
        ),
    ],
)
def test_the_client_chooses_the_format(accept: str, wanted: TextFormat) -> None:
    assert wanted_format(accept) is wanted
