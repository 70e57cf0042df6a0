"""Fair turns among waiting tasks: the plan by itself, and the database against a simple model."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from captiond.clients import Client
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.queues.shares import WaitingClient, WaitingTask, plan
from captiond.store import claims, consistency, leases, tasks
from captiond.store.engine import Engine, reading, writing
from captiond.store.turns import most_tasks
from tests.patience import PATIENCE

OWNER = "node/model0"

# ---------------------------------------------------------------- the plan


def waiting(
    *images: int, turn: float = 0.0, weight: float = 1.0, cost: float = 1.0, name: str = ""
) -> WaitingClient:
    """Return a client with tasks of so many images, whose ids are `name` and a number."""
    made = (WaitingTask(f"{name}{n}", 0.0, cost, count) for n, count in enumerate(images))
    return WaitingClient(turn, weight, tuple(made))


CLIENTS = st.lists(
    st.builds(
        waiting,
        st.integers(0, 30),
        st.integers(0, 30),
        turn=st.floats(0, 9),
        weight=st.floats(0.25, 4),
        cost=st.floats(0.5, 16),
    ),
    max_size=8,
).map(lambda clients: [named(client, str(n)) for n, client in enumerate(clients)])


def named(client: WaitingClient, name: str) -> WaitingClient:
    made = (WaitingTask(name + each.id, each.turn, each.cost, each.images) for each in client.tasks)
    return WaitingClient(client.turn, client.weight, tuple(made))


@given(CLIENTS, st.integers(0, 100))
def test_a_plan_takes_as_many_images_as_wait(clients: list[WaitingClient], limit: int) -> None:
    left = Counter({task.id: task.images for client in clients for task in client.tasks})
    chosen = plan(clients, limit)
    assert len(chosen) == min(limit, left.total())
    assert Counter(chosen) <= left


@given(CLIENTS, st.integers(0, 100))
def test_no_client_gets_more_than_its_share(clients: list[WaitingClient], limit: int) -> None:
    """While two clients both wait, their service by weight differs by one image of each at most."""
    chosen = Counter(plan(clients, limit))
    ends = []
    for client in clients:
        taken = sum(chosen[task.id] for task in client.tasks)
        left = sum(task.images for task in client.tasks) - taken
        cost = client.tasks[0].cost / client.weight
        ends.append((client.turn, taken * cost, cost, left))
    for begin, service, cost, _ in ends:
        for other_begin, other_service, _, other_left in ends:
            if other_left and service:
                # The last image of the one started when the other one's next image had not.
                assert begin + service - cost <= other_begin + other_service + 1e-6


def test_weights_and_costs_decide_the_shares() -> None:
    light = waiting(999, name="light")
    heavy = waiting(999, weight=3.0, name="heavy")
    assert Counter(plan([light, heavy], 400)) == {"light0": 100, "heavy0": 300}
    dear = waiting(999, cost=9.0, name="dear")
    assert Counter(plan([light, dear], 100)) == {"light0": 90, "dear0": 10}


def test_the_tasks_of_one_client_share_its_turns() -> None:
    assert Counter(plan([waiting(999, 2, 999)], 20)) == {"0": 9, "1": 2, "2": 9}


def test_a_client_in_debt_waits_for_the_others() -> None:
    assert plan([waiting(9, turn=2.0, name="a"), waiting(9, name="b")], 6) == [
        *("b0", "b0", "a0", "b0", "a0", "b0")
    ]


def test_few_rows_are_read_for_a_plan() -> None:
    for clients in (1, 2, 24, 192):
        for limit in (1, 24, 192):
            assert most_tasks(clients, limit) * clients <= 2 * limit + clients + 512


# ---------------------------------------------------------------- the database


@dataclass
class ModelTask:
    """A task of the model. `waiting` and `claimed` are positions of images."""

    id: str
    client: Client
    cost: float
    number: int
    turn: float | None
    waiting: list[int]
    claimed: set[int] = field(default_factory=set)

    @property
    def key(self) -> tuple[float, int]:
        assert self.turn is not None
        return self.turn, self.number


@dataclass
class ModelClient:
    """A client of the model. It waits while one of its tasks has a turn."""

    weight: float
    turn: float
    number: int

    @property
    def key(self) -> tuple[float, int]:
        return self.turn, self.number


class FairModel:
    """What `store.turns` does, as it is defined: one image after the other, all in memory."""

    def __init__(self) -> None:
        self.tasks: dict[str, ModelTask] = {}
        self.clients: dict[str, ModelClient] = {}
        self._number = 0

    def create(self, task_id: str, client: Client, cost: float, images: int) -> None:
        task = ModelTask(task_id, client, cost, len(self.tasks), None, list(range(images)))
        self.tasks[task_id] = task
        self._enter([task], delay=1.0)

    def _enter(self, tasks: list[ModelTask], delay: float) -> None:
        waiting = self._waiting_clients()
        now = min((self.clients[name].turn for name in waiting), default=0.0)
        for task in tasks:
            first = min((each.key for each in self._waiting(task.client.name)), default=None)
            task.turn = 0.0 if first is None else first[0] + delay * task.cost
        arrivals: dict[str, float] = {}
        for task in tasks:
            arrival = now + delay * task.cost / task.client.weight
            arrivals[task.client.name] = min(arrivals.get(task.client.name, arrival), arrival)
        weights = {task.client.name: task.client.weight for task in tasks}
        for name in sorted(arrivals):
            self._number += 1
            new = ModelClient(weights[name], arrivals[name], self._number)
            client = self.clients.setdefault(name, new)
            client.turn = client.turn if name in waiting else max(client.turn, arrivals[name])

    def claim(self, limit: int) -> list[tuple[str, int]]:
        taken: list[tuple[str, int]] = []
        while len(taken) < limit and (names := self._waiting_clients()):
            client = min((self.clients[name].key, name) for name in names)[1]
            task = min(self._waiting(client), key=lambda each: each.key)
            image = min(task.waiting)
            task.waiting.remove(image)
            task.claimed.add(image)
            taken.append((task.id, image))
            task.turn = task.key[0] + task.cost if task.waiting else None
            self.clients[client].turn += task.cost / self.clients[client].weight
        self._forget()
        return taken

    def requeue(self) -> None:
        back = [task for task in self.tasks.values() if task.claimed]
        for task in back:
            task.waiting = sorted({*task.waiting, *task.claimed})
            task.claimed.clear()
        self._enter([task for task in back if task.turn is None], delay=0.0)

    def cancel(self, task_id: str) -> None:
        task = self.tasks[task_id]
        task.waiting, task.claimed, task.turn = [], set(), None
        self._forget()

    def _forget(self) -> None:
        """Forget clients without debt. In the database this is done when a client leaves."""
        waiting = self._waiting_clients()
        now = min((self.clients[name].turn for name in waiting), default=float("inf"))
        for name in [name for name in self.clients if name not in waiting]:
            if self.clients[name].turn <= now:
                del self.clients[name]

    def _waiting(self, client: str) -> list[ModelTask]:
        """Return the tasks of a client that have a turn."""
        return [task for task in self._in_turn() if task.client.name == client]

    def _waiting_clients(self) -> set[str]:
        return {task.client.name for task in self._in_turn()}

    def _in_turn(self) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.turn is not None]


def new_task(
    task_id: str, images: int, client: Client, cost: float = 1.0, at: float = 1.0
) -> NewTask:
    some = (NewImage("x", SpooledImage(task_id, n, 1, "sha")) for n in range(images))
    return NewTask(task_id, task_id, tuple(some), at, client=client, cost=cost)


async def claim(store: Engine, limit: int) -> list[tuple[str, int]]:
    """Claim images. Return the task and the position of each."""
    taken = await claims.claim(store, limit, owner=OWNER, now=2.0)
    return [(one.image.file, one.image.offset) for one in taken.claims]


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_the_database_agrees_with_the_model(store: Engine, seed: int) -> None:
    choose, model = random.Random(seed), FairModel()
    weights = {name: choose.choice((0.5, 1.0, 2.0)) for name in "abcde"}
    for step in range(60):
        match choose.choice(("create", "create", "claim", "claim", "requeue", "cancel")):
            case "create":
                client, cost = choose.choice("abcde"), choose.choice((0.5, 1.0, 4.0))
                images = choose.choice((1, 1, 3, 40))
                named = Client(client, weights[client])
                await tasks.create_task(store, new_task(f"t{step}", images, named, cost, step))
                model.create(f"t{step}", named, cost, images)
            case "claim":
                limit = choose.randint(1, 16)
                assert sorted(await claim(store, limit)) == sorted(model.claim(limit))
            case "requeue" if choose.random() < 0.3:
                await claims.requeue(store, owner=OWNER, now=3.0)
                model.requeue()
            case "cancel" if open_ := [n for n, t in model.tasks.items() if t.waiting or t.claimed]:
                chosen = choose.choice(open_)
                await tasks.cancel(store, chosen, now=3.0)
                model.cancel(chosen)
    rest = sum(len(task.waiting) for task in model.tasks.values())
    assert len(await claim(store, rest + 9)) == rest, "no image is forgotten"


@pytest.mark.anyio
async def test_a_turn_that_was_lost_is_reported_and_mended_by_a_start(store: Engine) -> None:
    await tasks.create_task(store, new_task("t", 2, Client("a")))
    async with writing(store) as connection:
        await connection.execute(text("UPDATE tasks SET turn = NULL"))
        await connection.execute(text("DELETE FROM turns"))
    assert await claim(store, 9) == []
    (problem,) = await consistency.contradictions(store)
    assert problem == "task t is PENDING, but its images wait without a turn, until the next start"
    await leases.recover(store, "node")
    assert await consistency.contradictions(store) == []
    assert await claim(store, 9) == [("t", 0), ("t", 1)]


@pytest.mark.anyio
async def test_idle_clients_are_forgotten(store: Engine) -> None:
    """Every address that ever sent a task would have a row otherwise."""
    for number in range(30):
        await tasks.create_task(store, new_task(f"t{number}", 1, Client(f"address:{number}")))
    assert len(await claim(store, 20)) == 20
    await tasks.cancel(store, "t29", now=2.0)
    assert len(await claim(store, 20)) == 9
    async with reading(store) as connection:
        rows = (await connection.execute(text("SELECT count(*) FROM turns"))).scalar_one()
    assert rows == 0


@pytest.mark.anyio
@pytest.mark.parametrize("counted", [0, -3])
async def test_a_claim_ends_although_the_counters_of_tasks_are_damaged(
    store: Engine, counted: int
) -> None:
    for name in ("a", "b"):
        image = NewImage("x", SpooledImage("s", 0, 9, "sha"))
        await tasks.create_task(store, NewTask(name, f"s-{name}", (image,) * 3, 1.0))
    async with writing(store) as connection:
        await connection.execute(text(f"UPDATE tasks SET open_images = {counted}"))
        await connection.execute(text("UPDATE images SET status = 'FAILED' WHERE task_id = 'a'"))
    async with asyncio.timeout(PATIENCE):
        claimed = await claims.claim(store, 9, owner=OWNER, now=2.0)
    assert [one.image.file for one in claimed.claims] == ["s-b"] * 3
