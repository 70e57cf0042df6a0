"""How fast images of tasks are finished: it says when a client may try again. Pure."""

import math

SLOT_SECONDS = 15.0  # longer than a batch takes
SLOTS = 20  # five minutes


class DrainRate:
    """Counts finished images in slots of SLOT_SECONDS. Times are seconds of a monotonic clock.

    Slots without a finished image do not count: the queue was empty, or no model process ran.
    """

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}

    def finished(self, now: float) -> None:
        """Count a finished image."""
        slot = int(now // SLOT_SECONDS)
        self._slots[slot] = self._slots.get(slot, 0) + 1

    def rate(self, now: float) -> float:
        """Return the images per second, to two digits, or 0 if nothing was finished lately.

        It changes only when a slot ends, so it can be published whenever it changes.
        """
        present = int(now // SLOT_SECONDS)
        self._slots = {slot: n for slot, n in self._slots.items() if slot >= present - SLOTS}
        ended = [number for slot, number in self._slots.items() if slot < present]
        return two_digits(sum(ended) / (len(ended) * SLOT_SECONDS)) if ended else 0.0


def two_digits(value: float) -> float:
    """Return a positive number rounded to two significant digits."""
    return round(value, 1 - math.floor(math.log10(value)))
