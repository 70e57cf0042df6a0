"""Faults across nodes: what was accepted gets one result, whichever node fails, and however."""

import asyncio
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import SOAK, new_seed, progress, record, rounds
from tests.nodes.cluster import (
    Cluster,
    Load,
    Node,
    cluster,
    judge,
    remove_orphans,
    wait_for_webhooks,
)
from tests.nodes.importing import SharedImport
from tests.receiver import receiving
from tests.service import wait_for

ROLES = ("all", "web", "worker")
Fault = Callable[[Cluster, Node, random.Random, Load], None]


def kill(_: Cluster, node: Node, __: random.Random, ___: Load) -> None:
    """Kill a node with SIGKILL, and start another one in its place."""
    node.kill()
    node.start()


def kill_for_long(nodes: Cluster, node: Node, _: random.Random, __: Load) -> None:
    """Kill a node, and start another one when the others have taken its images."""
    name = nodes.name_of(node)
    node.kill()
    nodes.wait_for_dead(name)
    node.start()


def suspend(nodes: Cluster, node: Node, _: random.Random, __: Load) -> None:
    """Stop a node for longer than its lease, and let it go on."""
    name = nodes.name_of(node)
    with node.suspended():
        nodes.wait_for_dead(name)


def cut_off(nodes: Cluster, node: Node, _: random.Random, __: Load) -> None:
    """Let no packet pass between a node and the database, for longer than its lease."""
    name = nodes.name_of(node)
    node.cable.cut()
    nodes.wait_for_dead(name)
    node.cable.repair()


def restart_database(nodes: Cluster, _: Node, rng: random.Random, __: Load) -> None:
    """Restart the server: all connections end, or it has crashed."""
    nodes.server.restart(rng.choice([signal.SIGINT, signal.SIGQUIT]))


def lose_storage(nodes: Cluster, _: Node, __: random.Random, load: Load) -> None:
    """Take the object storage away until a client has noticed."""
    refused = load.ledger.answers["task 503"]
    nodes.wire.cut()
    with load.not_holding_back():
        wait_for(lambda: load.ledger.answers["task 503"] > refused, "a refused upload")
    nodes.wire.repair()


# A soak has so many parts, each with nodes and servers of its own, and can go on with any of them.
PARTS = 10 if SOAK else 1
# The number of times that each fault is injected with the tests, and in each part of a soak.
FAULTS: dict[Fault, tuple[int, int]] = {
    kill: (1, 15),
    kill_for_long: (0, 5),
    suspend: (1, 5),
    cut_off: (1, 2),
    restart_database: (1, 2),
    lose_storage: (0, 1),
}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, *ROLES) as made:
        made.start()
        yield made


@pytest.mark.parametrize("part", range(PARTS))
def test_nodes_fail_at_random(nodes: Cluster, part: int) -> None:
    """All kinds of faults in random order, while clients send tasks and wait for captions.

    Before them, a node is killed that works at a shard of an import. The faults follow while the
    import goes on.
    """
    seed = new_seed()
    rng = random.Random(seed)
    plan = [fault for fault, (short, full) in FAULTS.items() for _ in range(rounds(short, full))]
    rng.shuffle(plan)
    shared = SharedImport(nodes)
    other, worker = (nodes.nodes[ROLES.index(role)] for role in ("all", "worker"))
    with other.suspended():
        shared.queue()
        shared.wait_for_a_claim(worker)
        worker.kill()
    worker.start()
    with receiving() as hook:
        load = Load(nodes, rng, hook)
        with load.running():
            for done, fault in enumerate(plan):
                progress(done, len(plan), f"part {part}, faults of nodes")
                before = len(load.ledger.accepted)
                fault(nodes, rng.choice(nodes.nodes), rng, load)
                wait_for(lambda n=before: len(load.ledger.accepted) > n, "an accepted task")  # type: ignore[misc]
        for node in nodes.nodes:
            nodes.wait_ready(node)
        nodes.wait_for_the_end()
        wait_for_webhooks(nodes)
        shared.check()
        for node in nodes.nodes:
            assert node.service is not None
            assert node.service.stop() == 0
        verdict = judge(nodes, load.ledger, hook)
    asyncio.run(remove_orphans(nodes))
    kept = {name for (name,) in nodes.query("SELECT spool FROM tasks WHERE spool IS NOT NULL")}
    assert nodes.s3.names() == kept == set()
    assert nodes.query("SELECT id FROM asks") == []
    counts = {fault.__name__: plan.count(fault) for fault in FAULTS}
    record("nodes", part=part, seed=seed, **counts, **verdict, answers=dict(load.ledger.answers))
    assert load.ledger.answers["caption 200"] > 0
