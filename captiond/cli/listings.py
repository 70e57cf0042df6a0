"""Lists of tasks, keys and webhooks for people: a table, or on a narrow terminal a record each."""

from collections.abc import Sequence
from datetime import datetime
from typing import TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

STYLES = {"COMPLETED": "green", "DELIVERED": "green", "FAILED": "red", "PENDING": "yellow"}
WIDEST = 1000  # characters of a line
INDENT = "  "
Cells = Sequence[Text]


def print_listing(columns: Sequence[str], rows: Sequence[Cells], out: TextIO) -> None:
    """Print rows whose first cell is their name. Every cell is whole: an id has to be copied."""
    console = Console(file=out)
    table = listing_table(columns, rows)
    unbounded = console.options.update(width=WIDEST)
    if Measurement.get(console, unbounded, table).maximum <= console.width:
        console.print(table)
        return
    for row in rows:
        console.print(row[0], soft_wrap=True)
        for line in record_lines(columns[1:], row[1:], console.width):
            console.print(line, soft_wrap=True)


def listing_table(columns: Sequence[str], rows: Sequence[Cells]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*row)
    return table


def record_lines(names: Sequence[str], cells: Cells, width: int) -> list[Text]:
    """Return the cells that are not empty with their names, as many on a line as fit."""
    lines = [Text(INDENT)]
    for name, cell in zip(names, cells, strict=True):
        if not cell.plain:
            continue
        entry = Text.assemble((f"{name} ", "dim"), cell, INDENT)
        if len(lines[-1]) + entry.cell_len - len(INDENT) > width and lines[-1].plain.strip():
            lines.append(Text(INDENT))
        lines[-1].append_text(entry)
    return lines


def moment(rfc3339: str | None) -> Text:
    """Return a time as `2026-11-24 06:18:33 CET`, in the time zone of this machine."""
    if not rfc3339:
        return Text()
    return Text(datetime.fromisoformat(rfc3339).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"))


def status(value: str) -> Text:
    """Return the status of a task or of a webhook, in its colour."""
    return Text(value, STYLES.get(value, ""))


def plain(value: object, style: str = "") -> Text:
    """Return text without markup. Control characters of the terminal are replaced."""
    text = "".join(character if character.isprintable() else "�" for character in str(value))
    return Text(text, style)
