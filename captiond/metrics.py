"""Metrics: what is counted and measured, declared once for all processes.

A process records into its `Recorder` and sends what has come together to the supervisor, over the
pipe that it has already (`messages.Measured`). The supervisor adds all of it up in one `Registry`.
Nothing here does I/O. Names and units follow Prometheus' conventions: base units (seconds, bytes),
counters end in `_total`.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Labels = tuple[str, ...]  # the values of a metric's labels, in the order of their names
Series = tuple[str, Labels]  # a metric's name, and the values of its labels

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True, slots=True)
class Counter:
    """A sum that only grows."""

    name: str
    description: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a value was at most each of `bounds`, and the sum of all values."""

    name: str
    description: str
    bounds: tuple[float, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that rises and falls. Only the supervisor has gauges; it sets them when it is asked.

    A process's own gauges could not be added up, and would outlive a process that died.
    """

    name: str
    description: str
    labels: tuple[str, ...] = ()


Metric = Counter | Histogram | Gauge


@dataclass(slots=True)
class Distribution:
    """The values of one series of a histogram.

    `counts` has one entry for each bound and one for the values above the last bound. An entry
    counts the values of its own interval only.
    """

    counts: list[int]
    sum: float = 0.0

    def add(self, other: "Distribution") -> None:
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.sum += other.sum


@dataclass(slots=True)
class Measurements:
    """Values by series: of counters the sums, of histograms the distributions."""

    counts: dict[Series, float] = field(default_factory=dict)
    distributions: dict[Series, Distribution] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts or self.distributions)


IMAGES_FINISHED = Counter(
    "captiond_images_finished_total",
    "Images that are finished, by lane and by outcome: captioned, cached, or the error's code.",
    ("lane", "outcome"),
)
BATCHES = Counter(
    "captiond_batches_total", "Batches that a model process has captioned.", ("process", "lane")
)
BATCH_IMAGES = Histogram("captiond_batch_images", "Images in a batch.", IMAGES, ("process", "lane"))
MODEL_BUSY = Counter(
    "captiond_model_busy_seconds_total",
    "Time that a model process has spent on captioning batches.",
    ("process",),
)
MODEL_IDLE = Counter(
    "captiond_model_idle_seconds_total",
    "Time that a model process has waited between two batches, by cause.",
    ("process", "cause"),
)
STAGE_SECONDS = Histogram(
    "captiond_stage_seconds",
    "Time of an image in each stage of a model process: decode, queue, model, tags.",
    SECONDS,
    ("stage",),
)
TAGGING_FAILURES = Counter(
    "captiond_tagging_failures_total", "Captions whose tags could not be made."
)
REQUESTS = Counter(
    "captiond_http_requests_total", "HTTP requests, by route and status.", ("route", "status")
)
REQUEST_ERRORS = Counter(
    "captiond_http_errors_total",
    "HTTP requests that were answered with an error, by the error's code.",
    ("code",),
)
FILES_REFUSED = Counter(
    "captiond_files_refused_total",
    "Uploaded files that were refused before they reached a model process, by the error's code.",
    ("code",),
)
UPLOAD_BYTES = Counter(
    "captiond_upload_bytes_total", "Bytes of request bodies that web processes have received."
)
RESTARTS = Counter(
    "captiond_process_restarts_total",
    "Child processes that were replaced, by kind and by how they ended.",
    ("kind", "death"),
)
CLAIMED = Counter(
    "captiond_images_claimed_total", "Images of tasks that were claimed for a model process."
)
REQUEUED = Counter(
    "captiond_images_requeued_total",
    "Claimed images that were requeued because their model process has exited.",
)
WEBHOOK_CALLS = Counter(
    "captiond_webhook_calls_total",
    "Calls of webhooks, by outcome: delivered, failed (and called again later), given_up.",
    ("outcome",),
)
WAITING_IMAGES = Gauge(
    "captiond_waiting_images", "Images of interactive requests that no model process has yet."
)
SPOOL_BYTES = Gauge("captiond_spool_bytes", "The size of all files in the spool, in bytes.")

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        IMAGES_FINISHED,
        BATCHES,
        BATCH_IMAGES,
        MODEL_BUSY,
        MODEL_IDLE,
        STAGE_SECONDS,
        TAGGING_FAILURES,
        REQUESTS,
        REQUEST_ERRORS,
        FILES_REFUSED,
        UPLOAD_BYTES,
        RESTARTS,
        CLAIMED,
        REQUEUED,
        WEBHOOK_CALLS,
        WAITING_IMAGES,
        SPOOL_BYTES,
    )
}


class Recorder:
    """What one process has measured since it last sent it."""

    def __init__(self) -> None:
        self._measured = Measurements()

    def count(self, metric: Counter, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter; `labels` are the values of the metric's labels, in their order."""
        series = series_of(metric, labels)
        counts = self._measured.counts
        counts[series] = counts.get(series, 0.0) + amount

    def observe(self, metric: Histogram, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        series = series_of(metric, labels)
        distribution = self._measured.distributions.get(series)
        if distribution is None:
            distribution = Distribution([0] * (len(metric.bounds) + 1))
            self._measured.distributions[series] = distribution
        distribution.counts[bisect_left(metric.bounds, value)] += 1
        distribution.sum += value

    def take(self) -> Measurements:
        """Return what was measured since the last call."""
        measured, self._measured = self._measured, Measurements()
        return measured


class Registry:
    """The sums over all processes, also over those that have exited, and the current gauges."""

    def __init__(self) -> None:
        self._total = Measurements()
        self._gauges: dict[Series, float] = {}

    def add(self, measured: Measurements) -> None:
        """Add what a process has measured."""
        for series, amount in measured.counts.items():
            self._total.counts[series] = self._total.counts.get(series, 0.0) + amount
        for series, distribution in measured.distributions.items():
            known = self._total.distributions.get(series)
            if known is None:
                self._total.distributions[series] = distribution
            else:
                known.add(distribution)

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """Set a gauge to its current value."""
        self._gauges[series_of(metric, labels)] = value

    @property
    def total(self) -> Measurements:
        return self._total

    def snapshot(self) -> list[dict[str, Any]]:
        """Return all series, as JSON has them.

        Each has a `name` and its `labels` by their names. A counter or a gauge has a `value`. A
        histogram has the `bounds` of its intervals, the `counts` of the values in each interval and
        above the last bound, and the `sum` of all values.
        """
        values = self._total.counts | self._gauges
        return [described(series) | {"value": value} for series, value in values.items()] + [
            described(series)
            | {"bounds": bounds_of(series), "counts": each.counts, "sum": each.sum}
            for series, each in self._total.distributions.items()
        ]


def described(series: Series) -> dict[str, Any]:
    name, labels = series
    return {"name": name, "labels": dict(zip(METRICS[name].labels, labels, strict=True))}


def bounds_of(series: Series) -> tuple[float, ...]:
    metric = METRICS[series[0]]
    return metric.bounds if isinstance(metric, Histogram) else ()


def series_of(metric: Metric, labels: Labels) -> Series:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not {labels}")
    return metric.name, labels
