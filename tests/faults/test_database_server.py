"""Restarts and crashes of the PostgreSQL server under load: nothing is lost, nothing is doubled."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import new_seed, progress, record, rounds
from tests.on_postgres import check_each_once, on, send
from tests.postgres import PostgresServer, postgres_server
from tests.service import running, wait_for

IMAGES = 12  # of each task
WAYS = (signal.SIGINT, signal.SIGQUIT)  # a fast stop, and one that is like a crash


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that loses nothing in a crash of its own."""
    with postgres_server(()) as postgres:
        yield postgres


def test_the_server_restarts_and_model_processes_are_killed(
    server: PostgresServer, data: Path
) -> None:
    rng, times = random.Random(new_seed()), rounds(2, 20)
    name, accepted = server.create_database(), dict[str, int]()
    with running(data, **on(server, name)) as service:
        for number in range(times):
            for part in range(3):
                first = 100 * number + 30 * part
                accepted[send(service, first, IMAGES)] = IMAGES
            time.sleep(rng.uniform(0, 1.0))
            if rng.random() < 0.5:
                service.child("model").kill()
            server.restart(rng.choice(WAYS))
            progress(number + 1, times, "restarts of the database")

        def finished() -> bool:
            return all(service.task(task)["status"] == "COMPLETED" for task in accepted)

        first_task = f"/async-batch-caption/status/{next(iter(accepted))}"
        wait_for(lambda: service.client.get(first_task).is_success, "the database")
        wait_for(finished, f"the end of {len(accepted)} tasks")
        results = [each for task in accepted for each in service.task(task)["result"]]
        assert service.stop() == 0
    check_each_once(server, name, accepted)
    assert all(result["caption"] for result in results)
    images = IMAGES * len(accepted)
    assert len(results) == images
    record("restarts of the database server", rounds=times, images=images, lost=0, doubled=0)
