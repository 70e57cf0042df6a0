"""What a process has measured, and the sums over all processes.

A process records into its `Recorder` and sends what has come together to the supervisor, over the
pipe that it has already (`messages.Measured`). The supervisor adds all of it up in one `Registry`.
Nothing here does I/O.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from captiond.metrics import METRICS, Counter, Gauge, Histogram, Metric

Labels = tuple[str, ...]  # the values of a metric's labels, in the order of their names
Series = tuple[str, Labels]  # a metric's name, and the values of its labels
OWN = ""  # the source of what the owner of a registry has set itself


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
    """Values by series: of counters the sums, of histograms the distributions, of gauges the last.

    What a process sends has only what is new.
    """

    counts: dict[Series, float] = field(default_factory=dict)
    distributions: dict[Series, Distribution] = field(default_factory=dict)
    gauges: dict[Series, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts or self.distributions or self.gauges)


class Recorder:
    """What one process has measured since it last sent it."""

    def __init__(self) -> None:
        self._measured = Measurements()
        self._watched: dict[Series, Callable[[], float]] = {}
        self._sent: dict[Series, float] = {}  # the gauges that were taken last

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

    def watch(self, metric: Gauge, read: Callable[[], float], *labels: str) -> None:
        """Have the value of a gauge read whenever measurements are taken."""
        self._watched[series_of(metric, labels)] = read

    def take(self) -> Measurements:
        """Return what was measured since the last call, and the gauges that have changed."""
        measured, self._measured = self._measured, Measurements()
        for series, read in self._watched.items():
            value = read()
            if self._sent.get(series) != value:
                measured.gauges[series] = self._sent[series] = value
        return measured


class Registry:
    """The sums over all processes, and the current gauges.

    Counters and histograms keep what processes have sent that have exited since. Gauges have a
    source, and `forget` removes those of one source.
    """

    def __init__(self) -> None:
        self._total = Measurements()
        self._gauges: dict[str, dict[Series, float]] = {OWN: {}}

    def add(self, measured: Measurements, source: str = OWN) -> None:
        """Add what a process has measured; `source` is its name."""
        for series, amount in measured.counts.items():
            self._total.counts[series] = self._total.counts.get(series, 0.0) + amount
        for series, distribution in measured.distributions.items():
            known = self._total.distributions.get(series)
            if known is None:
                self._total.distributions[series] = distribution
            else:
                known.add(distribution)
        if measured.gauges:
            self._gauges.setdefault(source, {}).update(measured.gauges)

    def forget(self, source: str) -> None:
        """Remove the gauges of a process that has exited."""
        self._gauges.pop(source, None)

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """Set a gauge of the registry's owner."""
        self._gauges[OWN][series_of(metric, labels)] = value

    def set_all(self, metric: Gauge, values: Mapping[Labels, float]) -> None:
        """Set all series of a gauge of the registry's owner. It has no others from now on."""
        own = self._gauges[OWN]
        for series in [series for series in own if series[0] == metric.name]:
            del own[series]
        for labels, value in values.items():
            self.set(metric, value, *labels)

    @property
    def total(self) -> Measurements:
        """All series. The gauges of several sources are added up."""
        gauges: dict[Series, float] = {}
        for source in self._gauges.values():
            for series, value in source.items():
                gauges[series] = gauges.get(series, 0.0) + value
        return Measurements(self._total.counts, self._total.distributions, gauges)

    def snapshot(self) -> list[dict[str, Any]]:
        """Return all series, as JSON has them.

        Each has a `name` and its `labels` by their names. A counter or a gauge has a `value`. A
        histogram has the `bounds` of its intervals, the `counts` of the values in each interval and
        above the last bound, and the `sum` of all values.
        """
        total = self.total
        values = total.counts | total.gauges
        return [described(series) | {"value": value} for series, value in values.items()] + [
            described(series)
            | {"bounds": bounds_of(series), "counts": each.counts, "sum": each.sum}
            for series, each in total.distributions.items()
        ]


def described(series: Series) -> dict[str, Any]:
    return {"name": series[0], "labels": labels_of(series)}


def labels_of(series: Series) -> dict[str, str]:
    """Return the values of the labels of a series, by their names."""
    name, labels = series
    return dict(zip(METRICS[name].labels, labels, strict=True))


def bounds_of(series: Series) -> tuple[float, ...]:
    metric = METRICS[series[0]]
    return metric.bounds if isinstance(metric, Histogram) else ()


def series_of(metric: Metric, labels: Labels) -> Series:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not {labels}")
    return metric.name, labels
