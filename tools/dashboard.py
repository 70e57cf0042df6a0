"""The dashboard for Grafana: `python -m tools.dashboard` writes config/grafana/captiond.json.

`tools.dashboard_panels` describes a panel in a few lines. Grafana's format takes fifty for each.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.dashboard_panels import GREEN, SECTIONS, Panel

FILE = Path(__file__).parents[1] / "config" / "grafana" / "captiond.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHT, STAT_HEIGHT = 8, 4


def main() -> None:
    """Write the dashboard."""
    FILE.write_text(rendered(), "utf-8")


def rendered() -> str:
    """Return the dashboard as the text of its file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def queries() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with its queries."""
    for section in SECTIONS:
        for panel in section.panels:
            for query in panel.queries:
                yield f"{section.title}: {panel.title}", query.text


def dashboard() -> dict[str, Any]:
    return {
        "uid": "captiond",
        "title": "captiond",
        "tags": ["captiond"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables()},
        "panels": [*panels()],
    }


def variables() -> list[dict[str, Any]]:
    """Return what the user chooses at the top: the Prometheus, and the services."""
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "Service",
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": "label_values(captiond_ready, instance)", "refId": "instance"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def panels() -> Iterator[dict[str, Any]]:
    """Yield the rows and their panels, each with its place."""
    top = number = 0
    for section in SECTIONS:
        number += 1
        yield row(section.title, number, top)
        top, left, height = top + 1, 0, 0
        for panel in section.panels:
            if left + panel.width > COLUMNS:
                top, left = top + height, 0
            height = STAT_HEIGHT if panel.stat else HEIGHT
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            yield {"id": number, "gridPos": place, **panel_body(panel)}
            left += panel.width
        top += height


def row(title: str, number: int, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "gridPos": place, "collapsed": False}


def panel_body(panel: Panel) -> dict[str, Any]:
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "expr": query.text,
                "legendFormat": query.legend,
                "datasource": SOURCE,
                "instant": panel.stat,
                "range": not panel.stat,
            }
            for number, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": field_defaults(panel), "overrides": []},
        "options": stat_options(panel) if panel.stat else graph_options(),
    }


def field_defaults(panel: Panel) -> dict[str, Any]:
    steps = panel.thresholds or ((GREEN, None),)
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": color, "value": value} for color, value in steps],
        },
    }
    if not panel.stat:
        defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "showPoints": "never",
        }
    return defaults


def stat_options(panel: Panel) -> dict[str, Any]:
    return {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if panel.thresholds else "none",
        "graphMode": "none",
        "textMode": "name" if panel.names else "auto",
    }


def graph_options() -> dict[str, Any]:
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


if __name__ == "__main__":
    main()
