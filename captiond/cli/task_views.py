"""The output of `captiond tasks`: tables on a terminal, JSON lines elsewhere."""

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from captiond.cli.formats import json_text, print_line

STYLES = {"COMPLETED": "green", "DELIVERED": "green", "FAILED": "red", "PENDING": "yellow"}
WIDEST = 1000  # characters of a line
Row = Mapping[str, Any]


def show_list(tasks: Iterable[Row], out: TextIO) -> None:
    """Print a line for each task."""
    if not out.isatty():
        for task in tasks:
            print_line(json_text(task), out)
        return
    table = new_table("task", "status", "accepted", "finished", "images", "failed")
    for task in tasks:
        progress = task["progress"]
        table.add_row(
            plain(task["task_id"]),
            status(task["status"]),
            moment(task["created_at"]),
            moment(task["finished_at"]),
            plain(f"{progress['done']}/{progress['total']}"),
            plain(progress["failed"] or ""),
        )
    print_whole(table, out)


def show_task(task: Row, out: TextIO) -> None:
    """Print a task, its images and the deliveries of its webhook."""
    if not out.isatty():
        print_line(json_text(task), out)
        return
    console = Console(file=out)
    console.print(plain(task["task_id"]), status(task["status"]))
    console.print(plain(task["message"]))
    times = ("created_at", "started_at", "finished_at")
    console.print(*(Text.assemble(name, " ", moment(task[name])) for name in times), sep="\n")
    console.print(images_table(task["result"] or ()))
    if task["deliveries"]:
        console.print(deliveries_table(task["deliveries"]))


def images_table(results: Iterable[Row]) -> Table:
    table = new_table("image", "caption", "tags")
    for result in results:
        if result["error"] is None:
            tags = ", ".join(result["tags"])
            table.add_row(plain(result["image_path"]), plain(result["caption"]), plain(tags, "dim"))
        else:
            reason = f"{result['error']} ({result['code']})"
            table.add_row(plain(result["image_path"]), plain(reason, "red"), "")
    return table


def deliveries_table(deliveries: Iterable[Row]) -> Table:
    table = new_table(
        "webhook", "status", "attempts", "last attempt", "answer", "next attempt", "url"
    )
    for delivery in deliveries:
        table.add_row(
            plain(delivery["id"]),
            status(delivery["status"]),
            plain(delivery["attempts"]),
            moment(delivery["tried_at"]),
            plain(delivery["error"] or delivery["response"] or ""),
            moment(delivery["due_at"]),
            plain(delivery["url"]),
        )
    return table


def new_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        # An id that is shortened or wrapped could not be copied.
        whole = name in {"task", "webhook"}
        table.add_column(name, no_wrap=whole, overflow="ignore" if whole else "fold")
    return table


def print_whole(table: Table, out: TextIO) -> None:
    """Print a table with whole cells. A narrow terminal breaks the lines instead.

    In columns of three letters, neither a time nor a name can be read.
    """
    console = Console(file=out)
    unbounded = console.options.update(width=WIDEST)
    console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    console.print(table)


def status(value: str) -> Text:
    return Text(value, STYLES.get(value, ""))


def moment(rfc3339: str | None) -> Text:
    """Return a time as `2026-11-24 05:18:33`, in UTC."""
    return Text((rfc3339 or "").replace("T", " ")[:19])


def plain(value: object, style: str = "") -> Text:
    """Return text without markup. Control characters of the terminal are replaced."""
    text = "".join(character if character.isprintable() else "�" for character in str(value))
    return Text(text, style)
