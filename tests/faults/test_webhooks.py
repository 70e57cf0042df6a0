"""SIGKILL between the end of a task and its delivery: the receiver is called all the same."""

import signal
from functools import partial
from pathlib import Path

from tests.faults.harness import gone, rounds
from tests.integration.test_webhooks import PATIENT, secret_of, send
from tests.receiver import HANG, receiving
from tests.service import check_nothing_lost, query, running, wait_for

OWED = "SELECT count(*) FROM deliveries WHERE status = 'PENDING'"


def test_what_is_owed_when_the_service_is_killed_is_delivered_after_it(data: Path) -> None:
    accepted: dict[str, int] = {}
    with receiving() as receiver:
        for _ in range(rounds(2, 50)):
            receiver.answers.extend([HANG] * 4)
            with running(data, **PATIENT) as service:
                accepted |= {send(service, receiver.url()): 1 for _ in range(6)}
                for task_id in accepted:
                    assert service.finished(task_id)["status"] == "COMPLETED"
                wait_for(lambda: not receiver.answers, "calls under way")
                tree = service.tree()
                service.process.send_signal(signal.SIGKILL)
                service.process.wait()
                wait_for(partial(gone, tree), "every process to be gone")
            assert query(data, OWED)[0][0] >= 6
        with running(data, **PATIENT) as service:
            wait_for(lambda: query(data, OWED) == [(0,)], "every delivery")
            secret = secret_of(service)
            assert service.stop() == 0
        told = [call.verified(secret)["data"]["task_id"] for call in receiver.calls]
    assert set(told) == set(accepted)
    check_nothing_lost(data, accepted)
