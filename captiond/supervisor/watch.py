"""Detection of hung model processes.

Pure: time arrives as ticks. A supervisor that was itself suspended for a while has missed the ticks
as well, so it suspects no process because of that.
"""

from dataclasses import dataclass

TICK_SECONDS = 1.0
START_TICKS = 300  # before the first message: the import of torch from a cold disk takes long


@dataclass(slots=True)
class Watch:
    """Counts for how many ticks a model process has sent nothing, and has run one batch."""

    silence_ticks: float
    batch_ticks: float
    started: bool = False
    silent: int = 0
    running: int = 0

    def received(self, *, new_batch: bool = False) -> None:
        """Note a message; `new_batch` if it reports that a batch has begun or is finished."""
        self.started = True
        self.silent = 0
        if new_batch:
            self.running = 0

    def tick(self, *, busy: bool) -> str | None:
        """Count one tick. Return why the process counts as hung, or None if it does not.

        `busy` is whether the process captions a batch.
        """
        self.silent += 1
        self.running = self.running + 1 if busy else 0
        limit = self.silence_ticks if self.started else START_TICKS
        if self.silent > limit:
            return f"silent for {self.silent} seconds"
        # guard: hung-batch
        if self.running > self.batch_ticks:
            return f"one batch takes more than {self.batch_ticks:g} seconds"
        return None
