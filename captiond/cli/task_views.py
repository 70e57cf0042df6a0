"""The output of `captiond tasks`: text for people on a terminal, JSON lines elsewhere."""

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from captiond.cli.formats import json_text, print_line
from captiond.cli.listings import moment, plain, print_listing

STYLES = {"COMPLETED": "green", "DELIVERED": "green", "FAILED": "red", "PENDING": "yellow"}
TASK_COLUMNS = ("task", "status", "images", "failed", "accepted", "finished")
WEBHOOK_COLUMNS = (
    "webhook", "status", "attempts", "last attempt", "answer", "next attempt", "url",
)  # fmt: skip
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
    if task["deliveries"]:
        rows = [delivery_cells(delivery) for delivery in task["deliveries"]]
        print_listing(WEBHOOK_COLUMNS, rows, out)


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


def delivery_cells(delivery: Row) -> tuple[Text, ...]:
    return (
        plain(delivery["id"]),
        status(delivery["status"]),
        plain(delivery["attempts"]),
        moment(delivery["tried_at"]),
        plain(delivery["error"] or delivery["response"] or ""),
        moment(delivery["due_at"]),
        plain(delivery["url"]),
    )


def status(value: str) -> Text:
    return Text(value, STYLES.get(value, ""))
