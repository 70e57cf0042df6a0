"""The memory that all image decoders of a model process may take together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from captiond.errors import TooMuchMemory
from captiond.host.machine import total_bytes
from captiond.queues.bytebudget import ByteBudget

MIB, GIB = 1 << 20, 1 << 30
SHARE = 4  # of the memory: a quarter
ALLOWANCE = 64 * MIB  # what each decoder may take for an image without asking
FILE_COPIES = 3  # of an uploaded file in a decoder: as it is, plain, and while one becomes another


def budget_bytes(setting: int, processes: int) -> int:
    """Return the budget of one of so many model processes.

    Without a setting it is a quarter of the memory, or a gigabyte if a half is more than that.
    """
    memory = total_bytes()
    return (setting or max(memory // SHARE, min(GIB, memory // 2))) // processes


def standing_bytes(file_bytes: int) -> int:
    """Return what each decoder may take without asking, for files of at most `file_bytes`."""
    return ALLOWANCE + FILE_COPIES * file_bytes


class MemoryBudget(ByteBudget):
    """Lends bytes to decoders, and refuses an image that needs more than there is."""

    @asynccontextmanager
    async def lent(self, needed: int) -> AsyncIterator[None]:
        """Lend bytes for the time of the block, as soon as they are free.

        Raises:
            TooMuchMemory: the budget is smaller than that.
        """
        if needed > self.total:
            raise too_much(needed, self.total)
        async with super().lent(needed):
            yield


def too_much(needed: int, most: int) -> TooMuchMemory:
    return TooMuchMemory(
        f"decoding the image takes {needed // MIB} MB of memory; at most {most // MIB} MB are "
        "allowed"
    )
