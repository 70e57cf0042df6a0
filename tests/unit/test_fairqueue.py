"""The fair queue, by simulation: shares, delays, and what it remembers."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.clients import Client
from captiond.queues.fairqueue import MOST_IDLE, SPARE_TURNS, FairQueue, Flow

NAMES = "abcde"
WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])
COSTS = st.integers(1, 1000)  # as different as decoding images is


@dataclass(frozen=True)
class Job:
    client: Client
    number: int
    cost: float
    group: str = ""


@dataclass
class Simulation:
    """A queue, and what each client has been served so far."""

    queue: FairQueue[Job] = field(default_factory=FairQueue)
    served: Counter[str] = field(default_factory=Counter)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def put(self, client: Client, cost: float = 1.0, group: str = "") -> Job:
        job = Job(client, next(self.numbers), cost, group)
        self.queue.put(client, job.number, job, cost)
        return job

    def serve(self) -> Job:
        job = self.queue.take()
        self.served[job.client.name] += int(job.cost)
        self.queue.finished(job.client.name)
        return job


def clients(weights: list[float]) -> list[Client]:
    return [Client(name, weight) for name, weight in zip(NAMES, weights, strict=False)]


@given(st.lists(WEIGHTS, min_size=2, max_size=5), st.data())
def test_clients_that_wait_are_served_by_their_weights_up_to_one_item(
    weights: list[float], data: st.DataObject
) -> None:
    """This is Theorem 1 of the paper: the bound holds in every interval, so for each prefix."""
    made = Simulation()
    largest = {}
    for client in clients(weights):
        costs = data.draw(st.lists(COSTS, min_size=30, max_size=30))
        largest[client] = max(costs) / client.weight
        for cost in costs:
            made.put(client, cost)
    while all(made.queue.waiting(client.name) for client in largest):
        made.serve()
        for one, other in itertools.combinations(largest, 2):
            ahead = made.served[one.name] / one.weight - made.served[other.name] / other.weight
            assert abs(ahead) <= largest[one] + largest[other] + 1e-6


@given(st.lists(COSTS, min_size=1, max_size=50), st.integers(0, 60), st.lists(COSTS, max_size=3))
def test_a_client_that_comes_anew_is_next(
    backlog: list[int], served: int, others: list[int]
) -> None:
    """Whatever the others have waiting, it waits at most for those who came anew as well."""
    made = Simulation()
    for cost in backlog:
        made.put(Client("flood"), cost)
    for _ in range(min(served, len(backlog))):
        made.serve()
    for number, cost in enumerate(others):
        made.put(Client(f"other{number}"), cost)
    mine = made.put(Client("mine"), 1000)
    before = list(iter(made.serve, mine))
    assert len(before) <= len(others) + (served == 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "serve", "take", "remove", "back"]), st.sampled_from(NAMES)),
    max_size=80,
)


@given(STEPS)
def test_no_item_is_lost_and_each_client_keeps_its_order(steps: list[tuple[str, str]]) -> None:
    made = Simulation()
    waiting: dict[str, list[Job]] = {name: [] for name in NAMES}
    for step, name in steps:
        total = sum(map(len, waiting.values()))
        assert len(made.queue) == total
        assert made.queue.clients == sum(bool(jobs) for jobs in waiting.values())
        if step == "put":
            waiting[name].append(made.put(Client(name), cost=ord(name) - 90))
        elif step == "remove" and waiting[name]:
            job = waiting[name].pop(len(waiting[name]) // 2)
            assert made.queue.remove(name, job.number) is job
            assert made.queue.remove(name, job.number) is None
        elif step != "remove" and total:  # it always has something to do while items wait
            client, first = made.queue.first()
            job = made.queue.take()
            assert job is first is waiting[client.name].pop(0)
            if step == "back":
                made.queue.put_back(client, job.number, job, job.cost)
                waiting[client.name].insert(0, job)
                assert made.queue.first() == (client, job), "it is as if it had not been taken"
            elif step == "serve":
                made.queue.finished(client.name)
    left = made.queue.clear()
    for name, jobs in waiting.items():
        assert [job for job in left if job.client.name == name] == jobs
    assert not made.queue


def test_two_items_of_one_key_are_refused_and_lose_nothing() -> None:
    queue = FairQueue[str]()
    queue.put(Client("a"), "key", "first", 1.0)
    with pytest.raises(AssertionError, match="two items of one client have the key 'key'"):
        queue.put(Client("a"), "key", "second", 1.0)
    assert (queue.take(), len(queue)) == ("first", 0)


def test_two_clients_alternate_and_a_weight_counts() -> None:
    made = Simulation()
    for name in "aab":
        made.put(Client(name))
    assert [made.serve().client.name for _ in range(3)] == ["a", "b", "a"]
    made.served.clear()
    for name, weight in (("a", 1.0), ("b", 3.0)):
        for _ in range(12):
            made.put(Client(name, weight))
    for _ in range(8):
        made.serve()
    assert made.served == {"a": 2, "b": 6}


def test_what_an_item_has_cost_counts_and_not_its_estimate() -> None:
    """A client whose images take a hundred times as long as they seem to."""
    made = Simulation()
    for _ in range(200):
        made.put(Client("bombs"))
        made.put(Client("usual"))
    for _ in range(100):
        job = made.queue.take()
        made.served[job.client.name] += 1
        made.queue.finished(job.client.name, extra=99.0 if job.client.name == "bombs" else 0.0)
    assert made.served["bombs"] <= 2


def test_a_client_that_sends_again_at_once_does_not_start_anew() -> None:
    """While its item is worked on, and others wait, its service is remembered."""
    made = Simulation()
    made.put(Client("heavy"), 100)
    made.queue.take()
    made.put(Client("heavy"), 100)
    for _ in range(50):
        made.put(Client("light"), 1)
    made.queue.finished("heavy")
    assert [made.serve().client.name for _ in range(50)] == ["light"] * 50


def test_an_item_that_cost_less_lets_its_client_come_sooner() -> None:
    made = Simulation()
    for _ in range(2):
        made.put(Client("a"), 100)
    for _ in range(20):
        made.put(Client("b"), 10)
    made.queue.take()
    made.serve()
    made.queue.finished("a", extra=-95)
    assert made.serve().client.name == "a"


def test_a_batch_is_of_one_group_and_the_others_keep_their_turns() -> None:
    made = Simulation()
    for group in "xyx":
        made.put(Client("a"), 1, group)
    for group in "yxx":
        made.put(Client("b"), 1, group)

    def batch(size: int = 4) -> list[tuple[str, int]]:
        jobs = made.queue.take_group(size, lambda job: job.group)
        return [(job.client.name, job.number) for job in jobs]

    assert batch(3) == [("a", 0), ("b", 4), ("a", 2)]
    assert batch() == [("b", 3), ("a", 1)]
    assert batch() == [("b", 5)]
    assert batch() == []


def test_a_single_item_is_taken_without_a_look_at_the_others() -> None:
    made = Simulation()
    for _ in range(1000):
        made.put(Client("a"), 1)
    asked: list[int] = []

    def group_of(job: Job) -> int:
        asked.append(job.number)
        return 0

    assert [job.number for job in made.queue.take_group(1, group_of)] == [0]
    assert len(asked) <= 1


def test_a_batch_has_a_most_cost_but_at_least_one_item() -> None:
    made = Simulation()
    for _ in range(5):
        made.put(Client("a"), 10)
    sizes = [len(made.queue.take_group(9, lambda _: 0, most_cost=most)) for most in (25, 1, 100)]
    assert sizes == [2, 1, 2]


def test_the_state_of_idle_clients_is_dropped() -> None:
    made = Simulation()
    for number in range(5 * MOST_IDLE):
        made.put(Client(f"address:{number}"), 1000)
        made.put(Client("always"), 1)
        while len(made.queue) > 1:
            made.serve()
    assert made.queue.remembered <= MOST_IDLE + 2
    made.serve()
    assert made.queue.remembered == 0


def test_clients_that_come_and_go_while_nothing_is_served_leave_nothing() -> None:
    made = Simulation()
    for number in range(1000):
        job = made.put(Client(f"address:{number}"))
        made.queue.remove(job.client.name, job.number)
    assert made.queue.remembered == 0
    assert len(made.queue._turns) <= SPARE_TURNS


def test_a_step_costs_the_logarithm_of_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in comparisons of start tags, of which a heap of n entries makes some 2 log2(n)."""
    comparisons = 0

    class Tag(float):
        def __lt__(self, other: float) -> bool:
            nonlocal comparisons
            comparisons += 1
            return float(self) < float(other)

        def __eq__(self, other: object) -> bool:
            return float(self) == other

        __hash__ = float.__hash__

    made = Simulation()
    plain = FairQueue._schedule

    def tagged(queue: FairQueue[Job], flow: Flow[Job], start: float) -> None:
        plain(queue, flow, Tag(start))

    monkeypatch.setattr(FairQueue, "_schedule", tagged)
    for number in range(4096):
        for _ in range(3):
            made.put(Client(str(number)))
    comparisons = 0
    for _ in range(4096):
        made.serve()
    assert comparisons / 4096 < 60
