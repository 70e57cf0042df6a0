"""The memory of a process that loads BLIP-base's shape and captions a batch of 8.

Run as `python -m tests.benchmarks.model_memory`. It imports what a model process imports, and loads
the model as a model process does, with the ways that cost the most memory in fp32.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer

import captiond.worker.process  # noqa: F401 - its memory belongs to the figures
from captiond.captioners.choices import Choices
from captiond.captioners.families import load_captioner
from captiond.captioners.protocol import Placement
from captiond.host.machine import trim_heap
from captiond.jobs import Generation

BATCH, TOKENS = 8, 3
WAYS = Choices("mkl", "mkl", attention="fused", cross="fused", rows=1200)
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# In another process, because this takes transformers.
WRITE = """
import sys
from pathlib import Path
from captiond.captioners.families import random_models
random_models()["base"].write(Path(sys.argv[1]))
"""
RESET_PEAK = "5"  # see proc(5)


def peak_gb() -> float:
    """Return the peak of the resident memory since the last reset, and reset it."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    CLEAR_REFS.write_text(RESET_PEAK)
    return int(lines["VmHWM"].split()[0]) * 1024 / 1e9


def main() -> None:
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", WRITE, folder], check=True)
        typer.echo(f"before: {peak_gb():.2f} GB at most")
        captioner = load_captioner(Path(folder), Placement(torch.device("cpu"), "fp32", True, WAYS))
        trim_heap()
        typer.echo(f"while the model is loaded: {peak_gb():.2f} GB")
    captioner.caption(captioner.allocate_pixels(BATCH), Generation(max_new_tokens=TOKENS))
    typer.echo(f"while a batch of {BATCH} is captioned: {peak_gb():.2f} GB")


if __name__ == "__main__":
    main()
