"""The limits of a decode process, where whoever started captiond has set lower ones."""

import subprocess
import sys

from captiond.decoding.childoutput import MAX_BYTES

MOST, SHARED = 1 << 40, 1 << 20
LIMIT_MEMORY = f"MemoryLimit(standing={1 << 20}, most={MOST}, shared={SHARED})"
LIMIT_FILES = "limit_files()"
PROGRAM = """
from resource import RLIMIT_AS, RLIMIT_CORE, RLIMIT_FSIZE, getrlimit, setrlimit
from captiond.decoding.limits import MemoryLimit, limit_files
{before}
{call}
print(*(getrlimit(kind)[1] for kind in (RLIMIT_AS, RLIMIT_FSIZE, RLIMIT_CORE)))
"""


def limits_after(call: str, **before: int) -> list[int]:
    """Return the hard limits of a process that begins with others, and makes a call."""
    setting = "\n".join(f"setrlimit({kind}, {(at, at)})" for kind, at in before.items())
    program = PROGRAM.format(before=setting, call=call)
    return list(map(int, subprocess.check_output([sys.executable, "-c", program]).split()))


def test_a_decoder_keeps_lower_limits() -> None:
    """Without a privilege it cannot raise them. To try would end it, and blame its image."""
    most = 8 << 30
    assert limits_after(LIMIT_MEMORY, RLIMIT_AS=most)[0] == most
    assert limits_after(LIMIT_FILES, RLIMIT_FSIZE=MAX_BYTES // 2)[1:] == [MAX_BYTES // 2, 0]


def test_a_decoder_lowers_higher_limits() -> None:
    assert limits_after(LIMIT_MEMORY)[0] == MOST + SHARED
    assert limits_after(LIMIT_FILES, RLIMIT_FSIZE=2 * MAX_BYTES)[1:] == [MAX_BYTES, 0]
