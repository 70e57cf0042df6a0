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


def is_other_version_installed() -> bool:
    """Return whether the code on disk is of another version than this process.

    The exit code of a child proves nothing: a child that was taken over may choose it.
    """
    try:
        code = Path(captiond.__file__).read_text("utf-8")
    except OSError:  # it is being replaced
        return True
    return ASSIGNMENT.findall(code) != [captiond.__version__]
