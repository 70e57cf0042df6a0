"""Measure captiond on a GPU, in at most nine minutes.

python -m tools.gpu [--device cuda] [--counts full] [--out build/gpu/out] [--parts engine,service]
"""

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tools.gpu.plan import COUNTS, PARTS, TOTAL_SECONDS, chosen
from tools.gpu.report import report
from tools.gpu.runner import Results, Run, load, run_all

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS, TABLES, LOG = "results.json", "results.md", "parts.log"
NAME_COMMAND = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu", description=(__doc__ or "").partition("\n")[0]
    )
    names = ", ".join(part.name for part in PARTS)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a rehearsal")
    parser.add_argument(
        "--counts", choices=[*COUNTS], default="full", help="small: a rehearsal on a CPU"
    )
    parser.add_argument("--parts", default="", help=f"run only these, by commas: {names}")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu" / "out")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "gpu" / "work", help="for models and logs"
    )
    parser.add_argument(
        "--seconds", type=float, default=TOTAL_SECONDS, help="for all parts together"
    )
    parser.add_argument(
        "--stretch", type=float, default=1.0, help="multiply the time of each part (a slow machine)"
    )
    return parser.parse_args(given)


def main() -> int:
    """Run the parts, and print the tables of all results in the folder, also when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments()
    parts = chosen([name for name in options.parts.split(",") if name])
    for folder in (options.out, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    results = results_in(options.out / RESULTS, machine(options))
    run = Run(
        options.device,
        options.counts,
        options.seconds,
        options.stretch,
        options.work,
        options.out / LOG,
    )
    try:
        run_all(run, parts, results, tell)
    except KeyboardInterrupt:
        tell("interrupted")
    finally:
        text = report(results.machine, results.parts)
        (options.out / TABLES).write_text(text)
        print(text)
    return 0 if all(results.parts[part.name].state == "finished" for part in parts) else 1


def results_in(path: Path, about: dict[str, str]) -> Results:
    """Return the results of an earlier run with the same machine and counts, or new ones."""
    try:
        earlier = load(path)
    except FileNotFoundError:
        return Results(path, about)
    return earlier if earlier.machine == about else Results(path, about)


def machine(options: argparse.Namespace) -> dict[str, str]:
    """Describe what the figures depend on."""
    return {
        "device": device_name(options.device),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "numpy", "pillow")},
        "counts": options.counts,
    }


def device_name(device: str) -> str:
    """Return the name of the processor or of the GPUs, by their driver."""
    if device == "cpu":
        return processor()
    with os.popen(NAME_COMMAND) as lines:
        return lines.read().strip().replace("\n", "; ") or device


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def tell(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
