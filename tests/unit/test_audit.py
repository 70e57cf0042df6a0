"""`make audit` fails wherever it cannot know: what was not checked is never clean."""

import json
from pathlib import Path

import pytest

from tools.audit import CLEAN, FOUND, NOT_CHECKED, PINNED, NoReport, Report, audit, parse, run

NOTHING = Report({}, {})
KNOWN = Report({"urllib3 1.26.4": ["PYSEC-1"]}, {})
SKIPPED = Report({}, {"torch": "not found"})


@pytest.mark.parametrize(
    ("known", "pinned", "status", "text"),
    [
        (KNOWN, NOTHING, CLEAN, "No advisory"),
        (KNOWN, Report({"h11 0.1": ["CVE-1", "CVE-2"]}, {}), FOUND, "h11 0.1: CVE-1, CVE-2"),
        (KNOWN, SKIPPED, NOT_CHECKED, "torch: not checked: not found"),
        (NOTHING, NOTHING, NOT_CHECKED, "Nothing was checked"),
        (Report({}, {"urllib3": "not found"}), NOTHING, NOT_CHECKED, "cannot be reached"),
    ],
)
def test_what_is_not_known_is_not_clean(
    known: Report, pinned: Report, status: int, text: str
) -> None:
    reports = {PINNED: pinned}
    found, lines = audit(lambda requirements: reports.get(requirements, known))
    assert (found, text in "\n".join(lines)) == (status, True)


def test_a_program_that_fails_has_checked_nothing() -> None:
    def fails(_: Path) -> Report:
        raise NoReport("no route to host")

    status, (line,) = audit(fails)
    assert (status, "no route to host" in line) == (NOT_CHECKED, True)
    with pytest.raises(NoReport, match=r"^$"):
        run("true", PINNED)


def test_a_report_of_pip_audit_is_read() -> None:
    packages = [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": []}]},
        {"name": "c", "skip_reason": "Dependency not found on PyPI"},
    ]
    report = parse(json.dumps({"dependencies": packages, "fixes": []}))
    assert report == Report({"b 2": ["CVE-1"]}, {"c": "Dependency not found on PyPI"})
