"""The alerts and the dashboard name only metrics and labels that captiond has.

`make metrics-check` runs their queries in a real Prometheus.
"""

import re

import pytest
import yaml

from captiond.metrics import METRICS, Counter
from tests.monitoring.queries import (
    ALERT_TESTS,
    ALERTS,
    DASHBOARD,
    PROMETHEUS,
    Query,
    alerts,
    dashboard_queries,
    increases,
    selectors,
    unknown_names,
)
from tools import dashboard

QUERIES = [*alerts().values(), *dashboard_queries()]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_a_query_names_what_captiond_has(query: Query) -> None:
    assert [*selectors(query)] != []
    assert [*unknown_names(query)] == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("captiond_nothing", ["captiond_nothing"]),
        ("rate(captiond_image_seconds[5m])", ["captiond_image_seconds"]),
        ('captiond_queue_images{lain="bulk"}', ["captiond_queue_images{lain}"]),
        ("sum by (lane, nothing) (captiond_queue_images)", ["nothing"]),
        ("sum by (le, lane) (rate(captiond_image_seconds_bucket[5m]))", []),
    ],
)
def test_what_captiond_does_not_have_is_found(text: str, unknown: list[str]) -> None:
    assert [*unknown_names(Query("here", text))] == unknown


@pytest.mark.parametrize("query", alerts().values(), ids=lambda query: query.place)
def test_an_alert_sees_the_first_event(query: Query) -> None:
    """Prometheus sees no increase in a series that appears with the event."""
    for name, value in increases(query):
        counter = METRICS[name]
        assert isinstance(counter, Counter)
        there = {label for labels in counter.first_series for label in labels}
        assert there.issuperset(value.split("|")), name


def test_the_dashboard_shows_every_metric() -> None:
    """Health is shown as ready or not."""
    text = DASHBOARD.read_text("utf-8")
    missing = {name for name in METRICS if not re.search(rf"\b{name}(_bucket|_sum)?\b", text)}
    assert missing == {
        "captiond_health",
        "captiond_spool_limit_bytes",
        "captiond_images_claimed_total",
    }


def test_the_dashboard_is_what_the_tool_writes() -> None:
    """`python -m tools.dashboard` writes it."""
    assert DASHBOARD.read_text("utf-8") == dashboard.rendered()


def test_no_two_panels_are_in_one_place() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < dashboard.COLUMNS
        taken |= cells


def test_each_alert_is_tested_and_says_what_to_do() -> None:
    tests = yaml.safe_load(ALERT_TESTS.read_text("utf-8"))["tests"]
    assert [test["name"] for test in tests] == [*alerts()]
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert "$labels.instance" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


def test_prometheus_reads_the_rules_that_stand_beside_its_configuration() -> None:
    config = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    assert [PROMETHEUS.with_name(name) for name in config["rule_files"]] == [ALERTS]
    (job,) = config["scrape_configs"]
    assert 'up{job="captiond"}' in alerts()["CaptiondDown"].text
    assert job["job_name"] == "captiond"
