"""The progress of commands that take long: a bar on a terminal, and some lines elsewhere."""

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_SECONDS = 10.0
SPEED_SECONDS = 120.0  # a large batch on a slow CPU takes a minute


class RateColumn(ProgressColumn):
    """How many things are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate of the last minutes, or that of the whole at the end."""
        speed = task.finished_speed or task.speed
        if speed is None and task.completed and task.elapsed:  # all was done in one step
            speed = task.completed / task.elapsed
        return Text("" if speed is None else f"{speed:.3g} {self._unit}/s", "progress.data.speed")


def progress_bar(console: Console, unit: str = "") -> Progress:
    """Return a progress bar with the time left, and with a rate if a unit is given."""
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
    ]
    columns += [RateColumn(unit)] if unit else []
    return Progress(
        *columns,
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=SPEED_SECONDS,
    )


class ProgressLines:
    """Progress as plain lines, for a log. On a terminal nothing is printed: it has a bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def now(self, message: str) -> None:
        """Print a line."""
        if not self._console.is_terminal:
            self._last = time.monotonic()
            self._console.print(f"captiond: {message}", highlight=False, soft_wrap=True)

    def sometimes(self, message: str) -> None:
        """Print a line if the last one was a while ago."""
        if time.monotonic() - self._last >= LINE_SECONDS:
            self.now(message)
