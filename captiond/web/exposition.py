"""Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md

prometheus_client could write them, but its import takes longer than the rest of a small service's
(it has an HTTP server and a TLS client), and only its formats would be used. The tests read what is
written here with its parsers.
"""

from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from itertools import accumulate

from captiond.metrics import METRICS, Counter, Gauge, Histogram, Metric
from captiond.recording import Distribution, Labels, Measurements
from captiond.web.acceptance import qualities

TOTAL = "_total"


class TextFormat(StrEnum):
    """A format. The value is the Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def wanted_format(accept: str) -> TextFormat:
    """Return the format that an Accept header prefers: OpenMetrics only if it is named."""
    quality = qualities(accept)
    open_metrics = quality.get("application/openmetrics-text", 0.0)
    plain = max(quality.get("text/plain", 0.0), quality.get("text/*", 0.0))
    if open_metrics > 0 and open_metrics >= plain:
        return TextFormat.OPENMETRICS
    return TextFormat.PROMETHEUS


def exposition(measurements: Measurements, chosen: TextFormat) -> str:
    """Return all metrics as text. A metric that has no series yet has its HELP and TYPE.

    A counter has the series that are known in advance.
    """
    of_metric = series_by_metric(measurements)
    lines: list[str] = []
    for metric in METRICS.values():
        lines += head(metric, chosen)
        for labels, value in sorted(of_metric[metric.name].items()):
            lines += samples(metric, labels, value)
    if chosen is TextFormat.OPENMETRICS:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def series_by_metric(
    measurements: Measurements,
) -> defaultdict[str, dict[Labels, float | Distribution]]:
    found: defaultdict[str, dict[Labels, float | Distribution]] = defaultdict(dict)
    for metric in METRICS.values():
        if isinstance(metric, Counter):
            found[metric.name] = dict.fromkeys(metric.first_series, 0)
    for kind in (measurements.counts, measurements.gauges, measurements.distributions):
        for (name, labels), value in kind.items():
            found[name][labels] = value
    return found


def head(metric: Metric, chosen: TextFormat) -> list[str]:
    """Return the comments before the samples of a metric."""
    name = metric.name
    if chosen is TextFormat.OPENMETRICS and isinstance(metric, Counter):
        name = name.removesuffix(TOTAL)  # of the family; the sample keeps it
    description = metric.description.replace("\\", "\\\\")
    return [f"# HELP {name} {description}", f"# TYPE {name} {TYPES[type(metric)]}"]


TYPES: dict[type[Metric], str] = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def samples(metric: Metric, labels: Labels, value: float | Distribution) -> Iterator[str]:
    """Yield the lines of one series."""
    text = labels_text(metric.labels, labels)
    if not isinstance(value, Distribution):
        yield f"{metric.name}{braced(text)} {number(value)}"
        return
    assert isinstance(metric, Histogram)
    bounds = [*map(repr, metric.bounds), "+Inf"]  # floats, as OpenMetrics wants them
    total = 0
    for bound, total in zip(bounds, accumulate(value.counts), strict=True):
        limit = f'le="{bound}"'
        yield f"{metric.name}_bucket{braced(f'{text},{limit}' if text else limit)} {total}"
    yield f"{metric.name}_count{braced(text)} {total}"
    yield f"{metric.name}_sum{braced(text)} {number(value.sum)}"


def labels_text(names: tuple[str, ...], values: Labels) -> str:
    return ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True))


def braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """Return a number as text; a whole one has no fraction."""
    whole = int(value)
    return str(whole) if whole == value else repr(value)
