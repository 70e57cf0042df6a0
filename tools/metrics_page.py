"""The tables of docs/metrics.md, from the declarations in the code."""

from captiond.metrics import METRICS, Area, Counter, Histogram, Metric
from tools.markdown import code, table


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
