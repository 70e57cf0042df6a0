"""Where a batch's time goes: its kernels, those that take longest first."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from captiond.settings.config import Precision
from tools.gpu.job import Job, best_way
from tools.gpu.models import NAMED_WAYS, Model, Ours, prompt_of, random_model, random_pixels, ready
from tools.gpu.rows import WHOLE, Kernel
from tools.gpu.timing import GREEDY, SIDE, WARM_UPS

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8")
MOST = 25  # kinds of kernels
NAME_LENGTH = 90


def run(job: Job) -> Iterator[Kernel]:
    device = ready(job.device)
    model = random_model("base", job.counts.layers, device)
    way, batch = best_way(job.timings)
    for precision in PRECISIONS:
        yield from profiled_in(precision, model, way, batch)


def profiled_in(precision: Precision, model: Model, way: str, batch: int) -> Iterator[Kernel]:
    """Yield the whole batch and then its kernels, in a precision."""
    device = model.device
    ours, prompt = Ours(model, precision, NAMED_WAYS[way]), prompt_of(device=device)
    pixels = random_pixels(batch, SIDE, device)
    for _ in range(WARM_UPS):
        ours(pixels, prompt, GREEDY)
    kinds = [ProfilerActivity.CPU] if device.type == "cpu" else [ProfilerActivity.CUDA]
    with profile(activities=kinds) as profiled:
        begun = time.perf_counter()
        ours(pixels, prompt, GREEDY)
        took = time.perf_counter() - begun
    yield Kernel(f"{WHOLE} of {batch}, {precision}, {way}", 1000 * took, 1)
    yield from kernels(profiled.key_averages(), device)


def kernels(events: Any, device: torch.device) -> list[Kernel]:
    """Return the kinds of kernels of a profile, which torch leaves untyped; on a CPU operators."""
    kind = "CPU" if device.type == "cpu" else "CUDA"
    found = [
        Kernel(event.key[:NAME_LENGTH], milliseconds(event, device), event.count)
        for event in events
        if event.device_type.name == kind
    ]
    return sorted(found, key=lambda kernel: kernel.milliseconds, reverse=True)[:MOST]


def milliseconds(event: Any, device: torch.device) -> float:
    on_cpu = device.type == "cpu"
    micro: float = event.self_cpu_time_total if on_cpu else event.self_device_time_total
    return micro / 1000
