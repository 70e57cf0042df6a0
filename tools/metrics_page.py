"""The tables of docs/metrics.md, from the declarations in the code and the rules of the alerts."""

import re
from pathlib import Path
from typing import Any

import yaml

from captiond.metrics import METRICS, Area, Counter, Histogram, Metric
from tools.markdown import code, table

ALERTS = Path(__file__).parents[1] / "config" / "prometheus" / "alerts.yml"
PLACEHOLDER = re.compile(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}")


def alerts() -> str:
    """Return the table of the alerts."""
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    header = ("alert", "severity", "after", "meaning", "what to do")
    return table(header, map(alert_row, group["rules"]))


def alert_row(rule: dict[str, Any]) -> tuple[str, ...]:
    summary = PLACEHOLDER.sub(r"*\1*", rule["annotations"]["summary"])
    description = rule["annotations"]["description"]
    return (
        code(rule["alert"]),
        rule["labels"]["severity"],
        rule.get("for", ""),
        summary,
        description,
    )


def reference() -> str:
    """Return a section for each area, with a table of its metrics."""
    return "\n" + "\n".join(area_section(area) for area in Area) + "\n"


def area_section(area: Area) -> str:
    rows = [row_of(metric) for metric in METRICS.values() if metric.area is area]
    header = ("metric", "kind", "labels", "meaning")
    return f"### {area.value}\n\n{table(header, rows)}"


def row_of(metric: Metric) -> tuple[str, str, str, str]:
    labels = ", ".join(map(code, metric.labels))
    return code(metric.name), kind_of(metric), labels, metric.description


def kind_of(metric: Metric) -> str:
    if isinstance(metric, Counter):
        return "counter"
    return "histogram" if isinstance(metric, Histogram) else "gauge"
