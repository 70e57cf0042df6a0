"""How processes die, and how much the images that they worked on are to blame for it."""

import signal
from enum import StrEnum

# Points of blame for the death of a process. An image that has any is captioned alone from then on,
# so that the next death proves which image is the cause.
BLAME_LIMIT = 6
WITH_OTHERS = 1  # the image was in a batch with others, any of which may be the cause
ALONE = 3  # the process crashed or hung while it worked on this image alone
KILLED_ALONE = 1  # the same, but somebody, or the kernel for lack of memory, killed the process


class Death(StrEnum):
    """How a process died. It decides how much the images that it worked on are blamed."""

    CRASHED = "crashed"
    HUNG = "hung"
    KILLED = "killed"
    ORDERLY = "orderly"

    @classmethod
    def by(cls, exit_code: int) -> "Death":
        """Return the kind of death for an exit code, which is negative for a signal."""
        if exit_code == 0:
            return cls.ORDERLY
        # guard: kill-weighs-less
        return cls.KILLED if exit_code == -signal.SIGKILL else cls.CRASHED


def blame(death: Death, batch: int) -> int:
    """Return the points of blame for each image that a process worked on when it died.

    `batch` is the number of these images. An image is poison after two crashes or six kills alone.
    When the whole service dies, no image is blamed, because no process is left to count.
    """
    if death is Death.ORDERLY or batch == 0:
        return 0
    if batch > 1:
        return WITH_OTHERS
    return KILLED_ALONE if death is Death.KILLED else ALONE
