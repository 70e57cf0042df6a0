"""Which waiting images are taken next, in fair turns. Pure: no I/O, no clock.

Start-time fair queueing (P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996), in
two levels: among the clients by their weights, and among the tasks of one client equally. Each
client and each task has a `turn`, the virtual time at which its next image starts. The image with
the least turn is next. It moves the turn of its task by its cost, and that of its client by its
cost divided by the client's weight.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from math import ceil


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task with at most `images` waiting images, each of which costs `cost`."""

    id: str
    turn: float
    cost: float
    images: int


@dataclass(frozen=True, slots=True)
class WaitingClient:
    """A client and its first waiting tasks, in the order of their turns."""

    turn: float
    weight: float
    tasks: tuple[WaitingTask, ...]


def plan(clients: Iterable[WaitingClient], limit: int) -> list[str]:
    """Return the next `limit` images, or fewer if fewer wait: the task's id for each, in order.

    Equal turns keep the order in which the clients and the tasks are given. This takes time
    proportional to `limit`, times the logarithm of the number of clients and tasks.
    """
    chosen: list[str] = []
    queue = [(each.turn, n, each.weight, turns(each.tasks)) for n, each in enumerate(clients)]
    heapify(queue)
    while queue and len(chosen) < limit:
        turn, number, weight, images = queue[0]
        task = next(images, None)
        if task is None:
            heappop(queue)
            continue
        chosen.append(task.id)
        heapreplace(queue, (turn + task.cost / weight, number, weight, images))
    return chosen


def turns(tasks: Iterable[WaitingTask]) -> Iterator[WaitingTask]:
    """Yield the task of each image of one client, in the order of their turns."""
    queue = [(task.turn, n, task, task.images) for n, task in enumerate(tasks) if task.images > 0]
    heapify(queue)
    while queue:
        turn, number, task, left = queue[0]
        yield task
        if left == 1:
            heappop(queue)
        else:
            heapreplace(queue, (turn + task.cost, number, task, left - 1))


# ---------------------------------------------------------------- estimates


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A task with `images` unfinished images, the next of which starts at `turn`."""

    turn: float
    cost: float
    images: int


def images_before(
    task: QueuedTask,
    tasks_before: Iterable[QueuedTask],
    client_turn: float,
    weight: float,
    clients: Iterable[tuple[float, float]],
) -> int:
    """Return about how many images of other tasks come before the next image of a task.

    `tasks_before` are tasks of the same client with smaller turns, and `clients` the turn and the
    weight of each waiting client. An image of another client is taken to cost 1.
    """
    own, cost = 0, 0.0
    for other in tasks_before:
        images = min(other.images, ceil((task.turn - other.turn) / other.cost))
        own += images
        cost += images * other.cost
    reached = client_turn + cost / weight
    return own + sum(ceil((reached - turn) * share) for turn, share in clients if turn < reached)


def images_until(images: int, before: int, each: float) -> int:
    """Return about how many images are finished until a task is.

    `before` come before its first one, and then every image of the task has `each` - 1 images of
    other tasks between itself and the next one.
    """
    return before + ceil(images * each)
