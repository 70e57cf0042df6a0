"""The output of `captiond tasks`: text for people on a terminal, JSON lines elsewhere."""

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from captiond.cli.delivery_views import show_deliveries
from captiond.cli.formats import json_text, print_line
from captiond.cli.listings import moment, plain, print_listing, status

TASK_COLUMNS = ("task", "status", "images", "failed", "accepted", "finished")
Row = Mapping[str, Any]


def show_list(tasks: Iterable[Row], out: TextIO) -> None:
    """Print each task."""
    if out.isatty():
        print_listing(TASK_COLUMNS, [task_cells(task) for task in tasks], out)
        return
    for task in tasks:
        print_line(json_text(task), out)


def task_cells(task: Row) -> tuple[Text, ...]:
    progress = task["progress"]
    return (
        plain(task["task_id"]),
        status(task["status"]),
        plain(f"{progress['done']}/{progress['total']}"),
        plain(progress["failed"] or ""),
        moment(task["created_at"]),
        moment(task["finished_at"]),
    )


def show_task(task: Row, out: TextIO) -> None:
    """Print a task, its images and the deliveries of its webhook."""
    if not out.isatty():
        print_line(json_text(task), out)
        return
    console = Console(file=out)
    console.print(plain(task["task_id"]), status(task["status"]), soft_wrap=True)
    console.print(plain(task["message"]))
    for name in ("created_at", "started_at", "finished_at"):
        label = name.removesuffix("_at").replace("created", "accepted")
        console.print(Text.assemble((f"{label:9}", "dim"), moment(task[name]) or "not yet"))
    console.print(images_table(task["result"] or ()))
    show_deliveries(task["deliveries"], out)


def images_table(results: Iterable[Row]) -> Table:
    """Return a table of the images. Long texts are wrapped within their columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("image", "caption", "tags"):
        table.add_column(name, overflow="fold")
    for result in results:
        if result["error"] is None:
            tags = ", ".join(result["tags"])
            table.add_row(plain(result["image_path"]), plain(result["caption"]), plain(tags, "dim"))
        else:
            reason = f"{result['error']} ({result['code']})"
            table.add_row(plain(result["image_path"]), plain(reason, "red"), "")
    return table
