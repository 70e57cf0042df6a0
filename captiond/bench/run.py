"""A whole run: what is made ready for it, what is measured, and what is told of that."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
import transformers
from torch import Tensor

import captiond
from captiond.bench.cases import Case, Kind, Samples, Tell, measure
from captiond.bench.engines import (
    Engines,
    decode_case,
    device_of,
    engine_cases,
    load_engines,
    same_part,
    work_of,
)
from captiond.bench.floor import Arithmetic, Shape, Work, arithmetic
from captiond.bench.images import jpegs
from captiond.bench.load import Service, running, service_cases
from captiond.bench.rates import memory_cases, product_cases
from captiond.bench.report import Figures, Suggested, figures, suggested
from captiond.captioners.files import ModelFiles
from captiond.config import Precision, Settings
from captiond.errors import OutOfMemory
from captiond.worker.loading import threads_of

NEW_TOKENS = 19  # with the one that begins it, BLIP's longest caption by default
WIDTHS: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}  # bytes of a number
DISTINCT = 32  # images; larger batches and more requests have them more than once


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: batches of these sizes, and so many clients with these requests each."""

    rounds: int
    sizes: tuple[int, ...]
    clients: tuple[int, ...]
    requests: int


@dataclass(frozen=True, slots=True)
class Machine:
    device: str
    cores: int
    threads: int
    precision: str
    torch: str
    transformers: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has found; sizes in bytes, times in seconds."""

    captiond: str
    model: str
    machine: Machine
    plan: Plan
    arithmetic: Arithmetic
    figures: Figures
    service_batch_size: int | None
    starting_bytes: int | None  # most memory of the service's model process, until it was ready
    peak_bytes: int | None  # and while it captioned
    suggested: Suggested


@dataclass(frozen=True)
class Bench:
    """Everything loaded and running."""

    engines: Engines
    service: Service | None
    cases: list[Case]


def plan_for(settings: Settings, rounds: int | None, *, quick: bool, service: bool) -> Plan:
    """The sizes that fit the device."""
    on_cpu = device_of(settings).type == "cpu"
    sizes: tuple[int, ...] = (1, 4, 8, 16) if on_cpu else (1, 8, 32, 64, 128, 256)
    clients: tuple[int, ...] = (1, 4, 8) if on_cpu else (1, 8, 64, 512)
    if quick:
        sizes, clients = sizes[:2], clients[:2]
    return Plan(
        rounds=rounds or (2 if quick else 5),
        sizes=sizes,
        clients=clients if service else (),
        requests=3 if on_cpu else 10,
    )


def measured(settings: Settings, model: ModelFiles) -> Settings:
    """The settings to measure with: greedy search, nothing cached, nothing that stands by."""
    name = str(model.folder.absolute())
    plain = {"name": name, "revision": None, "fallback": "", "cache": None, "standby": False}
    changes = {
        "server": {"host": "127.0.0.1", "port": 0},
        "model": plain,
        "generation": {**Settings().generation.model_dump(), "max_new_tokens": NEW_TOKENS},
        "cache": {"enabled": False},
        "logs": {"level": "debug", "format": "json"},  # with what each batch had waited for
    }
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(update=values)
            for section, values in changes.items()
        }
    )


@contextmanager
def prepared(settings: Settings, plan: Plan, config: Path) -> Iterator[Bench]:
    """Load the engines, start the service with the settings file `config`, and end it again.

    Raises:
        ModelBroken, StartupError: one of them cannot run.
    """
    images = jpegs(range(DISTINCT))
    engines = load_engines(settings, images[: max(plan.sizes)])
    with serving(plan, config) as service:
        cases = chain(
            product_cases(engines.ours.device, engines.ours.precision),
            memory_cases(engines.ours.device),
            [decode_case(engines, images[0], settings)],
            engine_cases(engines, plan.sizes),
            service_cases(service, plan.clients, images, plan.requests) if service else (),
        )
        yield Bench(engines, service, list(cases))


def serving(plan: Plan, config: Path) -> AbstractContextManager[Service | None]:
    return running(config, max(plan.clients)) if plan.clients else nullcontext()


def run(bench: Bench, settings: Settings, plan: Plan, model: str, tell: Tell) -> Report:
    """Measure all of it.

    Raises:
        OutOfMemory: the device has none for a single image.
    """
    samples = measure(bench.cases, plan.rounds, tell)
    peak = bench.service.peak_bytes() if bench.service else None
    ours = bench.engines.ours
    counted = arithmetic(Shape.of(bench.engines.config))
    done = works(bench.engines, samples)
    if not done:
        raise OutOfMemory(f"{ours.device} has no memory for a single image; choose another")
    same = agreement(bench.engines, samples)
    found = figures(samples, done, same, counted, WIDTHS[ours.precision])
    machine = describe(settings, ours.device, ours.precision)
    return Report(
        captiond=captiond.__version__,
        model=model,
        machine=machine,
        plan=plan,
        arithmetic=counted,
        figures=found,
        service_batch_size=bench.service.batch_size if bench.service else None,
        starting_bytes=bench.service.starting_bytes if bench.service else None,
        peak_bytes=peak,
        suggested=suggested(found, machine.precision, machine.threads, machine.cores),
    )


def works(engines: Engines, samples: Samples) -> dict[int, Work]:
    """By batch size, what our engine has done."""
    padding = engines.config["text_config"]["pad_token_id"]
    ours = last_results(samples, Kind.CAPTIOND)
    return {size: work_of(tokens, padding) for size, tokens in ours.items()}


def agreement(engines: Engines, samples: Samples) -> dict[int, float]:
    """By batch size, the part of the images to which both engines gave the same tokens."""
    padding = engines.config["text_config"]["pad_token_id"]
    theirs, ours = last_results(samples, Kind.GENERATE), last_results(samples, Kind.CAPTIOND)
    return {
        size: same_part(theirs[size], ours[size], padding) for size in theirs.keys() & ours.keys()
    }


def last_results(samples: Samples, kind: Kind) -> dict[int, Tensor]:
    """By batch size, the tokens [batch, length] of a kind's last round."""
    return {int(case.name): taken[-1].result for case, taken in samples if case.kind is kind}


def describe(settings: Settings, device: torch.device, precision: Precision) -> Machine:
    return Machine(
        device=device_name(device),
        cores=len(os.sched_getaffinity(0)),
        threads=threads_of(settings),
        precision=precision,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return str(device)
