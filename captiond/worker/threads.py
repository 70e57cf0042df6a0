"""How many threads a model on the CPU has, if nothing was measured."""

import os

from captiond.config import Settings


def threads_of(settings: Settings) -> int:
    """Return the threads of a model on the CPU. All model processes share the cores."""
    cores = len(os.sched_getaffinity(0))
    return settings.model.threads or max(1, cores // len(settings.model.devices))
