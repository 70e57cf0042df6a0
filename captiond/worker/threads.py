"""How many threads a model on the CPU has, if nothing was measured."""

from captiond.config import Settings
from captiond.machine import usable_cores


def threads_of(settings: Settings) -> int:
    """Return the threads of a model on the CPU. All model processes share the cores."""
    return settings.model.threads or max(1, usable_cores() // len(settings.model.devices))
