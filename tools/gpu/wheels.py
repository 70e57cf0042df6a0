"""Gather, as wheels, what a GPU machine without a package index lacks to run captiond.

python -m tools.gpu.wheels [--into build/gpu/wheels] [--limit 50]

The machine is expected to have CPython 3.12 on x86-64 Linux, and torch for CUDA, transformers,
numpy and safetensors. Those are left out, and so are two packages that come with
transformers, because it refuses other versions of them. Everything else that captiond's
dependencies need is gathered in the versions of constraints.txt, so that nothing is missing however
little else is installed there.

Compiled modules are published with the symbols of a debugger, which are two thirds of spaCy's size.
They are removed with binutils' `strip`.
"""

import argparse
import base64
import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import requires
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
THERE = {"torch", "transformers", "numpy", "safetensors"}
THERE |= {"huggingface-hub", "tokenizers"}  # in the versions that transformers accepts there
GLIBC = 28  # the newest minor version of glibc 2 that a wheel may ask for
OLDER_NAMES = ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")
TARGET = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.12.3",
    "python_version": "3.12",
    "sys_platform": "linux",
}
MEGABYTE = 1e6
Requires = Callable[[str], list[str] | None]  # of a distribution by its name


def missing(direct: Iterable[str], requires: Requires = requires) -> list[str]:
    """Return the names of all that these requirements need on the target and may lack there.

    Raises:
        PackageNotFoundError: one of them is not installed here, so that its own needs are unknown.
    """
    found: dict[str, None] = {}
    waiting = [Requirement(text) for text in direct]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in THERE or name in found:
            continue
        found[name] = None
        extras = ("", *requirement.extras)
        needs = [Requirement(text) for text in requires(name) or ()]
        waiting += [need for need in needs if applies(need, extras)]
    return sorted(found)


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Return whether the target needs it, for any of these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**TARGET, "extra": extra}) for extra in extras)


def pinned(names: Iterable[str], constraints: str) -> list[str]:
    """Return `name==version` for each name that a constraints file pins, and the name alone for
    the rest (setuptools, which `pip freeze` leaves out).
    """
    pairs = (line.partition("==") for line in constraints.split())
    versions: dict[str, str] = {
        canonicalize_name(name): f"=={version}" for name, _, version in pairs
    }
    return [name + versions.get(name, "") for name in names]


def platforms() -> list[str]:
    """Return the platform tags that the machine takes; pip matches each of them exactly."""
    newer = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    return [*newer, *OLDER_NAMES]


def download(requirements: list[str], folder: Path) -> None:
    """Fetch one wheel for each requirement; pip says which of them has none.

    Raises:
        CalledProcessError: pip could not fetch them all.
    """
    options = ["--no-deps", "--only-binary=:all:", "--implementation=cp", "--python-version=3.12"]
    options += [f"--platform={name}" for name in platforms()]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", *options]
    subprocess.run([*command, f"--dest={folder}", *requirements], check=True)


def strip(wheel: Path) -> None:
    """Remove the debug symbols of a wheel's compiled modules, in place.

    Raises:
        CalledProcessError, FileNotFoundError: `strip` failed, or is not installed.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            archive.extractall(folder)
        modules = [name for name in names if name.endswith(".so")]
        if not modules:
            return
        subprocess.run(["strip", "--strip-debug", *modules], cwd=folder, check=True)
        write_record(folder, names)
        with ZipFile(wheel, "w", ZIP_DEFLATED, compresslevel=9) as archive:
            for name in names:
                archive.write(folder / name, name)


def write_record(folder: Path, names: Iterable[str]) -> None:
    """Rewrite an unpacked wheel's RECORD: the hash and the size of each of its files."""
    (record,) = folder.glob("*.dist-info/RECORD")
    own = record.relative_to(folder).as_posix()
    lines = [record_line(name, (folder / name).read_bytes()) for name in names if name != own]
    record.write_text("\n".join([*lines, f"{own},,", ""]))


def record_line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def sizes(folder: Path) -> Mapping[str, int]:
    """Return the bytes of each wheel, the largest first."""
    wheels = {path.name: path.stat().st_size for path in folder.glob("*.whl")}
    return dict(sorted(wheels.items(), key=lambda wheel: wheel[1], reverse=True))


def summary(wheels: Mapping[str, int], limit: float) -> tuple[bool, str]:
    """Return whether the wheels are within `limit` megabytes, and a text that says so."""
    total = sum(wheels.values()) / MEGABYTE
    text = f"{len(wheels)} wheels, {total:.1f} MB of at most {limit:g} MB"
    if total <= limit:
        return True, text
    largest = ", ".join(
        f"{name.partition('-')[0]} {size / MEGABYTE:.1f}" for name, size in [*wheels.items()][:5]
    )
    return False, f"{text}: too large; the largest, in MB: {largest}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "gpu" / "wheels")
    parser.add_argument("--limit", type=float, default=50, help="of all wheels, in megabytes")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = missing(project["dependencies"])
    shutil.rmtree(options.into, ignore_errors=True)
    options.into.mkdir(parents=True)
    download(pinned(names, (ROOT / "constraints.txt").read_text()), options.into)
    for wheel in options.into.glob("*.whl"):
        strip(wheel)
    fits, text = summary(sizes(options.into), options.limit)
    print(f"{options.into}: {text}")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
