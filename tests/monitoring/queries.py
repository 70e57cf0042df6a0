"""The queries of the alerts and of the dashboard, and which metrics and labels they name."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from captiond.metrics import METRICS, Histogram

CONFIG = Path(__file__).parents[2] / "config"
ALERTS = CONFIG / "prometheus" / "alerts.yml"
ALERT_TESTS = CONFIG / "prometheus" / "alerts_test.yml"
PROMETHEUS = CONFIG / "prometheus" / "prometheus.yml"
DASHBOARD = CONFIG / "grafana" / "captiond.json"
OF_PROMETHEUS = {"instance", "job"}  # labels that each series gets from the scrape
SELECTOR = re.compile(r"\b((?:captiond_\w+|up)\b)(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
SELECTED = re.compile(r'\w+\s*=~?\s*"([^"]*)"')
INCREASE = re.compile(r"\bincrease\((captiond_\w+)(\{[^}]*\})?")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
SERIES_OF_HISTOGRAM = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Query:
    """A query, and where it is."""

    place: str
    text: str


def alerts() -> dict[str, Query]:
    """Return the expressions of the alerts, by their names."""
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return {rule["alert"]: Query(f"alert {rule['alert']}", rule["expr"]) for rule in group["rules"]}


def dashboard_queries() -> Iterator[Query]:
    """Yield the queries of the dashboard, as they are in its file."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"panel {panel['title']} {target['refId']}", target["expr"])


def selectors(query: Query) -> Iterator[tuple[str, str]]:
    """Yield the name of each metric in a query, and the matchers of its labels in braces."""
    yield from SELECTOR.findall(query.text)


def increases(query: Query) -> Iterator[tuple[str, str]]:
    """Yield the counters whose increase a query computes, with each value of a label it selects."""
    for name, braces in INCREASE.findall(query.text):
        for value in SELECTED.findall(braces):
            yield name, value


def unknown_names(query: Query) -> Iterator[str]:
    """Yield what a query names that captiond does not have: metrics, and labels of metrics."""
    known = {"le"} | OF_PROMETHEUS
    for name, braces in selectors(query):
        labels = labels_of(name)
        if labels is None:
            yield name
            continue
        known |= labels
        for label in MATCHER.findall(braces):
            if label not in labels | OF_PROMETHEUS:
                yield f"{name}{{{label}}}"
    for grouping in GROUPING.findall(query.text):
        yield from {label.strip() for label in grouping.split(",")} - known


def labels_of(name: str) -> set[str] | None:
    """Return the labels of the series of this name, None if there is no such metric."""
    if name == "up":
        return set()
    if name in METRICS and not isinstance(METRICS[name], Histogram):
        return set(METRICS[name].labels)
    for ending in SERIES_OF_HISTOGRAM:
        metric = METRICS.get(name.removesuffix(ending))
        if name.endswith(ending) and isinstance(metric, Histogram):
            return {*metric.labels, "le"} if ending == "_bucket" else set(metric.labels)
    return None
