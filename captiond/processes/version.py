"""The version of captiond's code. Another one may be installed while the service runs."""

import re
import sys
from pathlib import Path

import structlog

import captiond

OTHER_VERSION = 3  # the exit code of a child that is of another version than its parent
ASSIGNMENT = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
log = structlog.get_logger()


def check_version(running: str) -> None:
    """End this process if it is of another version than the service, which is `running`.

    It would not understand the messages of the other processes, or their database. A restart of the
    service lets all of them be of the new version.
    """
    # guard: one-version-at-a-time
    if running != captiond.__version__:
        log.error("other_version_installed", running=running, installed=captiond.__version__)
        sys.exit(OTHER_VERSION)


def ended_for_its_version(exit_code: int) -> bool:
    """Return whether a child has ended since it is of another version than this process.

    Its exit code alone proves nothing: a child that was taken over may choose it. So another
    version must be on disk as well.
    """
    if exit_code != OTHER_VERSION:
        return False
    try:
        code = Path(captiond.__file__).read_text("utf-8")
    except OSError:  # it is being replaced
        return True
    return ASSIGNMENT.findall(code) != [captiond.__version__]
