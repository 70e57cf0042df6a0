"""Which image is decoded next, and into which slot."""

import asyncio
from itertools import count

import pytest

from captiond.clients import Client
from captiond.decoding.geometry import Geometry
from captiond.decoding.jobqueue import DecodeJob, JobQueue
from captiond.decoding.slots import Slots
from captiond.jobs import Lane, SpooledImage
from captiond.messages import Work

pytestmark = pytest.mark.anyio
NUMBERS = count()
MEGABYTE = 1_000_000


def job(client: str, lane: Lane = Lane.INTERACTIVE, size: int = MEGABYTE) -> DecodeJob:
    image = SpooledImage("a", 0, size, "sha")
    work = Work(str(next(NUMBERS)), lane, image, client=Client(client))
    return DecodeJob(work, lambda: True, asyncio.get_running_loop().create_future())


def queue(slots: int, *jobs: DecodeJob) -> JobQueue:
    """A queue with so many slots of each lane."""
    made = JobQueue(Slots(2 * slots, Geometry(1, 1, 3)))
    for each in jobs:
        made.put(each)
    return made


async def taken(made: JobQueue) -> tuple[str, int]:
    """Take the next job, and return its client and its slot."""
    await made.wait()
    job, slot = made.take()
    return job.client.name, slot


async def waits(made: JobQueue) -> bool:
    """Whether no job has a slot."""
    try:
        async with asyncio.timeout(0):
            await made.wait()
    except TimeoutError:
        return True
    made.leave()
    return False


async def test_clients_have_turns() -> None:
    made = queue(9, *[job("bombs") for _ in range(5)])
    assert (await taken(made))[0] == "bombs"
    made.put(job("mine"))
    assert [(await taken(made))[0] for _ in range(2)] == ["mine", "bombs"]


async def test_the_time_that_decoding_took_counts() -> None:
    """Small files that take long: while they are decoded, all other images go first."""
    bombs = [job("bombs", size=1000) for _ in range(5)]
    made = queue(30, *bombs, *[job("usual", size=1000) for _ in range(20)])
    for _ in range(2):
        await made.wait()
        first, _ = made.take()
        made.finished(first, 2.0 if first in bombs else 0.002)
    rest = [(await taken(made))[0] for _ in range(23)]
    assert rest == ["usual"] * 19 + ["bombs"] * 4


async def test_a_job_waits_for_a_slot_of_its_lane_and_no_other_job_does() -> None:
    made = queue(2, *[job("a") for _ in range(3)], job("b", Lane.BULK))
    slots = [await taken(made) for _ in range(3)]
    assert [client for client, _ in slots] == ["a", "a", "b"]
    assert len({slot for _, slot in slots}) == 3
    assert await waits(made)
    made.free([slots[2][1]])
    assert await waits(made), "it is a slot of the other lane"
    made.put(job("late"))
    made.free([slots[0][1]])
    assert await taken(made) == ("late", slots[0][1]), "the choice is made when there is a slot"
    assert await waits(made)
    made.free([slots[1][1]])
    assert (await taken(made))[0] == "a"
    made.free([slots[0][1]])
    assert await waits(made), "no job is left"


async def test_a_decoder_that_cannot_work_leaves_the_job_to_another() -> None:
    made = queue(1, job("a"))
    await made.wait()
    made.leave()
    assert (await taken(made))[0] == "a"
