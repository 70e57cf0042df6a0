"""Compare the pinned dependencies with published advisories: python -m tools.audit PIP_AUDIT

PIP_AUDIT is the path of the program pip-audit. Where that program cannot reach the advisories, it
may skip every package and report that none is vulnerable. So a version that is known to be
vulnerable is looked up first, and a package that is skipped is an error.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PINNED = Path(__file__).parents[1] / "constraints.txt"
VULNERABLE = "urllib3==1.26.4"  # has had advisories since 2021
CLEAN, FOUND, NOT_CHECKED = 0, 1, 2  # exit statuses


@dataclass(frozen=True, slots=True)
class Report:
    """The advisories of each package that has any, and why packages were skipped."""

    advisories: dict[str, list[str]]
    skipped: dict[str, str]


class NoReport(Exception):
    """pip-audit has failed; the message is the end of what it has printed."""


def run(program: str, requirements: Path) -> Report:
    """Return what pip-audit reports about the packages of a file.

    Raises:
        NoReport: it has failed.
    """
    command = [program, "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise NoReport("\n".join(done.stderr.strip().splitlines()[-1:]))
    return parse(done.stdout)


def parse(text: str) -> Report:
    """Return the report that pip-audit prints as JSON."""
    packages = json.loads(text)["dependencies"]
    advisories = {
        f"{each['name']} {each['version']}": [found["id"] for found in each["vulns"]]
        for each in packages
        if each.get("vulns")
    }
    skipped = {each["name"]: each["skip_reason"] for each in packages if each.get("skip_reason")}
    return Report(advisories, skipped)


def audit(run: Callable[[Path], Report]) -> tuple[int, list[str]]:
    """Return the exit status and the lines to print. `run` returns the report on a file."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            known = Path(folder) / "known.txt"
            known.write_text(VULNERABLE + "\n")
            if not run(known).advisories:
                return NOT_CHECKED, [
                    "Nothing was checked: the advisories of the Python Package Index cannot be "
                    f"reached. They must name {VULNERABLE}, and do not. Run this where "
                    "https://pypi.org can be reached, without a mirror in between."
                ]
        report = run(PINNED)
    except NoReport as error:
        return NOT_CHECKED, [f"Nothing was checked: pip-audit has failed: {error}"]
    lines = [f"{name}: {', '.join(ids)}" for name, ids in report.advisories.items()]
    lines += [f"{name}: not checked: {reason}" for name, reason in report.skipped.items()]
    if report.advisories:
        return FOUND, lines
    if report.skipped:
        return NOT_CHECKED, lines
    return CLEAN, [f"No advisory names a package of {PINNED.name}."]


def main(program: str) -> int:
    """Audit, print the outcome, and return the exit status."""
    status, lines = audit(lambda requirements: run(program, requirements))
    sys.stdout.write("\n".join(lines) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
