"""The progress bar of commands that take long: shown on a terminal, silent elsewhere."""

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

SPEED_SECONDS = 120.0  # a large batch on a slow CPU takes a minute


class RateColumn(ProgressColumn):
    """How many things are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate of the last minutes, or that of the whole at the end."""
        speed = task.finished_speed or task.speed
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
