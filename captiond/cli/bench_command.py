"""`captiond bench`: measure captiond on this machine, and print tables or JSON."""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from rich import box
from rich.console import Console
from rich.table import Table

from captiond.bench.cases import Case
from captiond.bench.load import tree
from captiond.bench.report import Suggested
from captiond.bench.run import Plan, Report, measured, plan_for, prepared, run
from captiond.captioners.families import random_models
from captiond.captioners.files import ModelFiles, locate
from captiond.captioners.transformers import hide_progress_bars
from captiond.cli.captioning.progress import ProgressLines, progress_bar
from captiond.cli.exits import ending_at_once
from captiond.cli.formats import json_text, print_line, settings_as_toml
from captiond.errors import ModelMissing
from captiond.logs import set_up_logs
from captiond.settings.config import Settings
from captiond.settings.sources import Origin

SECTIONS = (
    *("server", "model", "generation", "captions", "images"),
    *("tags", "limits", "cache", "logs"),
)
SOURCE = "captiond bench"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure."""

    shape: str | None  # measure random weights in this shape
    model_required: bool  # the command line names the model: random weights cannot replace it
    rounds: int | None
    quick: bool
    service: bool


def bench(settings: Settings, options: BenchOptions, *, as_json: bool) -> None:
    """Measure and print the report. Standard error gets the progress: a bar, or else lines.

    SIGINT and SIGTERM end the process at once. No file and no process is left.

    Raises:
        ModelMissing, ModelBroken, StartupError, OutOfMemory
    """
    set_up_logs(settings.logs, process="bench")
    hide_progress_bars()
    plan = plan_for(settings, options.rounds, quick=options.quick, service=options.service)
    with (
        TemporaryDirectory(prefix="captiond-bench-", ignore_cleanup_errors=True) as folder,
        ending_at_once(partial(leave_nothing, Path(folder))),
    ):
        report = measure(settings, options, plan, Path(folder))
    if as_json:
        print_line(json_text(asdict(report)), sys.stdout)
    else:
        show(report, Console())


def leave_nothing(folder: Path) -> None:
    """Kill the service that was started, with its processes, and remove the files."""
    for pid in tree(os.getpid())[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    rmtree(folder, ignore_errors=True)


def measure(settings: Settings, options: BenchOptions, plan: Plan, folder: Path) -> Report:
    console = Console(stderr=True)
    say = ProgressLines(console)
    say.now("preparing the model")
    with console.status("preparing the model"):
        model = choose_model(settings, options, folder / "model")
        chosen = measured(settings, model)
        config = folder / "captiond.toml"
        config.write_text(as_toml(chosen))
    with prepared(chosen, plan, config) as ready, progress_bar(console) as progress:
        total = len(ready.cases) * (1 + plan.rounds)
        bar = progress.add_task("", total=total)
        begun = count(1)

        def report(case: Case) -> None:
            what = f"{case.kind} {case.name}"
            progress.update(bar, advance=1, description=what)
            say.sometimes(f"measurement {next(begun)} of {total}: {what}")

        return run(ready, chosen, plan, model.name, report)


def choose_model(settings: Settings, options: BenchOptions, folder: Path) -> ModelFiles:
    """Return the model of the settings if it is on disk, or one of random weights in `folder`.

    Raises:
        ModelMissing: the model is not on disk, and random weights may not replace it.
    """
    name, shape = settings.model.name, options.shape
    if shape is None:
        try:
            return ModelFiles(name, locate(settings, name, download=False))
        except ModelMissing:
            if options.model_required:
                raise
    random_model = random_models()[shape or "base"]
    random_model.write(folder)
    return ModelFiles(random_model.title, folder)


def as_toml(settings: Settings) -> str:
    return settings_as_toml(
        Origin(section, key, value, SOURCE, default=value)
        for section, keys in settings.model_dump(mode="json", include=set(SECTIONS)).items()
        for key, value in keys.items()
    )


def show(report: Report, console: Console) -> None:
    machine = report.machine
    console.print(
        f"{report.model}, {machine.precision}, on {machine.device}: {machine.cores} cores, "
        f"{machine.threads} threads; torch {machine.torch}, transformers {machine.transformers}; "
        f"medians of {report.plan.rounds} rounds",
        highlight=False,
        markup=False,
    )
    console.print(engine_table(report), machine_table(report))
    if report.starting_bytes is not None and report.peak_bytes is not None:
        console.print(
            f"over HTTP, in batches of at most {report.service_batch_size}; the model process used "
            f"at most {report.starting_bytes / 1e6:,.0f} MB of memory while it started, and "
            f"{report.peak_bytes / 1e6:,.0f} MB while it captioned",
            highlight=False,
            markup=False,
        )
        console.print(service_table(report))
    console.print(suggestion(report.suggested), highlight=False, markup=False)


def engine_table(report: Report) -> Table:
    table = new_table(
        "batch",
        "generate, s an image",
        "captiond",
        "ratio",
        "floor",
        "of the floor",
        "tokens an image",
        "same tokens",
    )
    for figure in report.figures.engine:
        table.add_row(
            str(figure.batch_size),
            seconds(figure.generate),
            seconds(figure.captiond),
            "-" if figure.ratio is None else f"{figure.ratio:.2f}",
            seconds(figure.floor),
            "-" if figure.of_floor is None else f"{figure.of_floor:.2f}",
            "-" if figure.new_tokens is None else f"{figure.new_tokens:.1f}",
            "-" if figure.same is None else f"{figure.same:.0%}",
        )
    return table


def machine_table(report: Report) -> Table:
    figures = report.figures
    table = new_table("the machine's best", "", "by")
    for precision, floor in figures.floors.items():
        product, least = floor.product, min(floor.seconds.values())
        table.add_row(
            f"matrix products, {precision}", f"{product.rate / 1e9:,.0f} GFLOP/s", product.name
        )
        table.add_row(f"floor, {precision}", f"{seconds(least)} s", "an image, at the best batch")
    table.add_row("memory", f"{figures.memory.rate / 1e9:,.1f} GB/s", figures.memory.name)
    table.add_row("decoding", seconds(figures.decode) + " s", "one JPEG of 100 KB, one core")
    return table


def service_table(report: Report) -> Table:
    table = new_table("clients", "images/s", "p50, s", "p99, s", "the model waits for")
    for figure in report.figures.service:
        table.add_row(
            str(figure.clients),
            f"{figure.images_per_second:.2f}",
            seconds(figure.p50),
            seconds(figure.p99),
            ", ".join(f"{cause} {part:.1%}" for cause, part in figure.idle.items()),
        )
    return table


def suggestion(suggested: Suggested) -> str:
    """Return the suggested settings as lines for captiond.toml."""
    return "\n".join(
        (
            "# suggested settings for this machine, in captiond.toml",
            "[model]",
            f"batch_size = {suggested.batch_size}",
            f'precision = "{suggested.precision}"',
            f"threads = {suggested.threads}",
            "",
            "[images]",
            f"decoders = {suggested.decoders}",
        )
    )


def new_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def seconds(value: float | None) -> str:
    return "no memory" if value is None else f"{value:.3g}"
