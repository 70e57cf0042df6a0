"""The images that wait for a decoder. A job is taken when a decoder and a slot are free for it.

The choice is made at that moment, so an image that comes late can have the next turn. The clients'
images have fair turns by the processor time that their decoding takes, which is estimated before
and measured afterwards.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from captiond.decoding.estimate import estimated_cost
from captiond.decoding.slots import Slots
from captiond.jobs import Lane, Refused
from captiond.messages import Decoded, Work
from captiond.queues.lanes import ForWork, Lanes

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The pixels of an image, in a slot, which its user has to free."""

    slot: int
    decoded: Decoded


@dataclass(slots=True, eq=False)
class DecodeJob(ForWork):
    """One image to decode. A decoder has one at a time, so its death has one possible cause.

    `content` is the image itself, or None if it is in the spool's folder. The answer is None if the
    image is not wanted any more when it is its turn.
    """

    work: Work
    is_wanted: Callable[[], bool]
    answer: asyncio.Future[DecodedImage | Refused | None]
    content: "Buffer | None" = None
    blame: int = 0

    @property
    def group(self) -> None:
        """Jobs are taken one by one, so all are of one group."""

    @property
    def cost(self) -> float:
        """The estimated time to decode the image, in seconds."""
        return estimated_cost(self.work.image.size)

    def resolve(self, result: DecodedImage | Refused | None) -> bool:
        """Give the result to whoever waits for it. Return false if that caller was cancelled."""
        if self.answer.done():
            return False
        self.answer.set_result(result)
        return True


class JobQueue:
    """Jobs in their lanes, and the free slots of each lane.

    The slot that was freed last is used first, because its memory may still be in the caches.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._jobs: Lanes[DecodeJob] = Lanes()
        self._free: dict[Lane, list[int]] = {lane: [] for lane in Lane}
        # Its value is the number of jobs that have a slot: of each lane, the jobs or the free
        # slots, whichever are fewer.
        self._ready = asyncio.Semaphore(0)
        self.free(range(slots.count))

    def put(self, job: DecodeJob) -> None:
        """Add a job."""
        self._jobs.put(job)
        if self._jobs.waiting(job.lane) <= len(self._free[job.lane]):
            self._ready.release()

    def free(self, slots: Iterable[int]) -> None:
        """Note that the pixels in these slots are not needed any more."""
        for slot in slots:
            lane = self._slots.lane_of(slot)
            self._free[lane].append(slot)
            if len(self._free[lane]) <= self._jobs.waiting(lane):
                self._ready.release()

    async def wait(self) -> None:
        """Wait until a job and a slot for it are there. `take` or `leave` must follow at once."""
        await self._ready.acquire()

    def leave(self) -> None:
        """Leave what `wait` has waited for to another decoder."""
        self._ready.release()

    def take(self) -> tuple[DecodeJob, int]:
        """Remove the next job, and return it with a slot. `finished` must follow."""
        (job,) = self._jobs.take(1, among=[lane for lane, slots in self._free.items() if slots])
        return job, self._free[job.lane].pop()

    def finished(self, job: DecodeJob, seconds: float) -> None:
        """Note that a decoder has worked on a job for so long, with or without success."""
        self._jobs.finished(job, extra=seconds - job.cost)
