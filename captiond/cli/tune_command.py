"""`captiond tune`: measure how the model computes fastest on this machine, and remember it."""

from rich import box
from rich.console import Console
from rich.table import Table

from captiond.captioners.choices import as_values
from captiond.captioners.tuning import Timing
from captiond.captioners.tuning_record import TuningRecord
from captiond.cli.captioning.progress import ProgressLines
from captiond.cli.exits import cleaning_up_on_interrupt
from captiond.logs import set_up_logs
from captiond.settings.config import Settings
from captiond.worker.tuned import measured_for_service

BUSY = (
    "The machine was busy with something else, so these figures are not reliable and were not "
    "kept. Run this command again when the machine is idle."
)
NOTHING = (
    "There is nothing to choose for this model on this device. Only large models on a CPU have "
    "alternatives. The next start of the service measures the batch size again."
)


def tune(settings: Settings) -> bool:
    """Measure, print the alternatives and what is chosen. Return whether the result was kept.

    Raises:
        ModelMissing, ModelBroken: there is no model to measure.
    """
    set_up_logs(settings.logs, process="tune")
    console = Console()
    progress = Console(stderr=True)
    lines = ProgressLines(progress)
    with cleaning_up_on_interrupt(), progress.status("measuring") as status:

        def on_race(race: str) -> None:
            status.update(f"measuring {race}")
            lines.sometimes(f"measuring {race}")

        found = measured_for_service(settings, on_race)
    console.print(f"{found.model} on {found.device}", highlight=False, markup=False)
    if not found.record.tries:
        console.print(NOTHING, highlight=False)
        return True
    console.print(timing_table(found.timings))
    console.print(summary(found.record), highlight=False, markup=False)
    if not found.record.quiet:
        console.print(BUSY, highlight=False)
    return found.record.quiet


def timing_table(timings: tuple[Timing, ...]) -> Table:
    """Return a table with the time of each alternative. Times of different races differ in kind."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what", "alternative", "ms an image", ""):
        table.add_column(name, overflow="fold")
    previous = ""
    for timing in timings:
        race = "" if timing.race == previous else timing.race
        chosen = "chosen" if timing.chosen else ""
        table.add_row(race, timing.alternative, f"{1000 * timing.seconds:.2f}", chosen)
        previous = timing.race
    return table


def summary(record: TuningRecord) -> str:
    """Return what is chosen as one line."""
    values = {
        "precision": record.precision,
        "threads": record.threads,
        "batch_size": record.batch_size,
        **as_values(record.choices),
    }
    return ", ".join(f"{name} = {value}" for name, value in values.items())
