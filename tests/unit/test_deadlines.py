"""No test waits for ever: each call that waits for a program or a connection has a deadline."""

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
BY_HAND = ("benchmarks", "browser", "metadata", "monitoring", "packages", "pictures", "ray")
# The beginning of a call, and what must be in its arguments.
NEEDED = {
    r"subprocess\.run\(": "timeout=",
    r"socket\.create_connection\(": "timeout=",
    r"\.communicate\(": "timeout=",
    r"process\.wait\(": "PATIENCE",
}


def files() -> list[Path]:
    found = sorted(TESTS.rglob("*.py"))
    return [path for path in found if path.relative_to(TESTS).parts[0] not in BY_HAND]


def calls(text: str, begin: str) -> Iterator[str]:
    """Yield the arguments of each call that begins so."""
    for found in re.finditer(begin, text):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        yield text[found.end() : at - 1]


def without_deadline(text: str) -> list[str]:
    return [
        f"{begin}{arguments})"
        for begin, needed in NEEDED.items()
        for arguments in calls(text, begin)
        if needed not in arguments
    ]


def test_each_wait_has_a_deadline() -> None:
    """pytest shows nothing of a test that never ends, and runs no test behind it."""
    texts = {path: path.read_text("utf-8") for path in files() if path != Path(__file__)}
    found = {str(path): without_deadline(text) for path, text in texts.items()}
    assert {path: calls for path, calls in found.items() if calls} == {}
    # A function between fork and exec may wait for a lock of another thread, for ever.
    assert [path for path, text in texts.items() if "preexec_fn=" in text] == []


def test_the_check_finds_calls_without_a_deadline() -> None:
    text = "done = subprocess.run([f(x), 'a'], check=True)\nprocess.wait(PATIENCE)\nprocess.wait()"
    assert without_deadline(text) == [
        r"subprocess\.run\([f(x), 'a'], check=True)",
        r"process\.wait\()",
    ]
