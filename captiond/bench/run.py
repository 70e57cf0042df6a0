"""A whole run of `captiond bench`: preparation, measurement and report."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

import captiond
from captiond.bench.cases import Case, CaseKind, OnCase, Samples, measure
from captiond.bench.engines import (
    Engines,
    decode_case,
    device_of,
    engine_cases,
    equal_part,
    load_engines,
    work_of,
)
from captiond.bench.floor import BatchWork
from captiond.bench.images import jpegs
from captiond.bench.load import ServiceProcess, running, service_cases
from captiond.bench.rates import memory_cases, other_product_cases, product_cases, shapes
from captiond.bench.report import Figures, Suggested, figures, suggested
from captiond.captioners.arithmetic import Arithmetic
from captiond.captioners.files import ModelFiles
from captiond.errors import OutOfMemory
from captiond.host.machine import usable_cores
from captiond.settings.config import Precision, Settings
from captiond.worker.threads import threads_of

NEW_TOKENS = 19  # transformers' default limit is 20, including the first token
DISTINCT = 32  # images; larger batches and further requests repeat them


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: batch sizes, and numbers of clients with `requests` requests each.

    `products` is the number of shapes whose matrix products are measured.
    """

    rounds: int
    products: int
    sizes: tuple[int, ...]
    clients: tuple[int, ...]
    requests: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the libraries that were measured."""

    device: str
    cores: int
    threads: int
    precision: str
    torch: str
    transformers: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run; sizes in bytes, times in seconds."""

    captiond: str
    model: str
    machine: Machine
    plan: Plan
    arithmetic: Arithmetic
    figures: Figures
    service_batch_size: int | None
    starting_bytes: int | None  # peak memory of the service's model process until it was ready
    peak_bytes: int | None  # its peak memory while it captioned
    suggested: Suggested


@dataclass(frozen=True)
class Bench:
    """What a run needs, loaded and running."""

    engines: Engines
    service: ServiceProcess | None
    cases: list[Case]


def plan_for(settings: Settings, rounds: int | None, *, quick: bool, service: bool) -> Plan:
    """Return a plan with sizes that fit the device."""
    on_cpu = device_of(settings).type == "cpu"
    sizes: tuple[int, ...] = (1, 4, 8, 16) if on_cpu else (1, 8, 32, 64, 128, 256)
    clients: tuple[int, ...] = (1, 4, 8) if on_cpu else (1, 8, 64, 512)
    if quick:
        sizes, clients = sizes[:2], clients[:2]
    return Plan(
        rounds=rounds or (2 if quick else 5),
        products=1 if quick else len(shapes(device_of(settings))),
        sizes=sizes,
        clients=clients if service else (),
        requests=3 if on_cpu else 10,
    )


def measured(settings: Settings, model: ModelFiles) -> Settings:
    """Return settings to measure with: greedy search, no cache, no standby process."""
    name = str(model.folder.absolute())
    plain = {"name": name, "revision": None, "fallback": "", "cache": None, "standby": False}
    changes = {
        "server": {"host": "127.0.0.1", "port": 0},
        "model": plain,
        "generation": {**Settings().generation.model_dump(), "max_new_tokens": NEW_TOKENS},
        "captions": {"finish_tokens": 0},  # random weights never end a caption
        "cache": {"enabled": False},
        "logs": {"level": "info", "format": "json"},
    }
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(update=values)
            for section, values in changes.items()
        }
    )


@contextmanager
def prepared(settings: Settings, plan: Plan, config: Path) -> Iterator[Bench]:
    """Load the engines, and run a service with the settings file `config` within the block.

    Raises:
        ModelBroken, StartupError: one of them cannot run.
    """
    images = jpegs(range(DISTINCT))
    engines = load_engines(settings, images[: max(plan.sizes)])
    captioner = engines.captioner
    measured_shapes = shapes(captioner.device)[: plan.products]
    with serving(plan, config) as service:
        cases = chain(
            product_cases(captioner.device, captioner.precision, measured_shapes),
            other_product_cases(captioner.device, captioner.precision),
            memory_cases(captioner.device),
            [decode_case(engines, images[0], settings)],
            engine_cases(engines, plan.sizes),
            service_cases(service, plan.clients, images, plan.requests) if service else (),
        )
        yield Bench(engines, service, list(cases))


def serving(plan: Plan, config: Path) -> AbstractContextManager[ServiceProcess | None]:
    return running(config, max(plan.clients)) if plan.clients else nullcontext()


def run(bench: Bench, settings: Settings, plan: Plan, model: str, on_case: OnCase) -> Report:
    """Measure all cases and return the report.

    Raises:
        OutOfMemory: the device has too little memory for a single image.
    """
    samples = measure(bench.cases, plan.rounds, on_case)
    peak = bench.service.peak_bytes() if bench.service else None
    captioner, counted = bench.engines.captioner, bench.engines.comparison.arithmetic
    done = works(bench.engines, samples)
    if not done:
        raise OutOfMemory(f"{captioner.device} has no memory for a single image; choose another")
    same = agreement(bench.engines, samples)
    measured_figures = figures(samples, done, same, counted, captioner.precision)
    machine = describe(settings, captioner.device, captioner.precision)
    return Report(
        captiond=captiond.__version__,
        model=model,
        machine=machine,
        plan=plan,
        arithmetic=counted,
        figures=measured_figures,
        service_batch_size=bench.service.batch_size if bench.service else None,
        starting_bytes=bench.service.starting_bytes if bench.service else None,
        peak_bytes=peak,
        suggested=suggested(measured_figures, machine.precision, machine.threads, machine.cores),
    )


def works(engines: Engines, samples: Samples) -> dict[int, BatchWork]:
    """Return the work that captiond's engine did, by batch size."""
    padding = engines.comparison.padding
    ours = last_results(samples, CaseKind.CAPTIOND)
    return {size: work_of(tokens, padding) for size, tokens in ours.items()}


def agreement(engines: Engines, samples: Samples) -> dict[int, float]:
    """Return the part of the images with the same tokens in both engines, by batch size."""
    padding = engines.comparison.padding
    theirs, ours = (
        last_results(samples, CaseKind.GENERATE),
        last_results(samples, CaseKind.CAPTIOND),
    )
    return {
        size: equal_part(theirs[size], ours[size], padding) for size in theirs.keys() & ours.keys()
    }


def last_results(samples: Samples, kind: CaseKind) -> dict[int, Tensor]:
    """Return the token ids [batch, length] of a kind's last round, by batch size."""
    return {int(case.name): taken[-1].result for case, taken in samples if case.kind is kind}


def describe(settings: Settings, device: torch.device, precision: Precision) -> Machine:
    return Machine(
        device=device_name(device),
        cores=usable_cores(),
        threads=threads_of(settings),
        precision=precision,
        torch=torch.__version__,
        transformers=version("transformers"),
    )


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return str(device)
