"""When a model process is hung. Pure: time comes in as ticks, so a supervisor that was itself
stopped for a while suspects nobody."""

from dataclasses import dataclass

TICK_SECONDS = 1.0
START_TICKS = 300  # before its first word: importing torch from a cold disk takes a while


@dataclass(slots=True)
class Watch:
    """One model process: how long it has been silent, and how long one batch has been running."""

    silence_ticks: float
    batch_ticks: float
    heard_anything: bool = False
    silent: int = 0
    running: int = 0

    def heard(self, *, new_batch: bool = False) -> None:
        """It said something; `new_batch` if that it has begun another batch, or ended one."""
        self.heard_anything = True
        self.silent = 0
        if new_batch:
            self.running = 0

    def tick(self, *, busy: bool) -> str | None:
        """A second has passed; why the process is taken to be hung, None if it is not."""
        self.silent += 1
        self.running = self.running + 1 if busy else 0
        most = self.silence_ticks if self.heard_anything else START_TICKS
        if self.silent > most:
            return f"silent for {self.silent} seconds"
        if self.running > self.batch_ticks:
            return f"one batch takes more than {self.batch_ticks:g} seconds"
        return None
