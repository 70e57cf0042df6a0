"""How many threads a model on the CPU has, if nothing was measured."""

from captiond.host.machine import usable_cores
from captiond.settings.config import Settings


def threads_of(settings: Settings) -> int:
    """Return the threads of a model on the CPU. All model processes share the cores."""
    return settings.model.threads or max(1, usable_cores() // len(settings.model.devices))
