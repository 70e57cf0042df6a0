"""A webhook is delivered even if SIGKILL comes between the end of its task and the delivery."""

import signal
from pathlib import Path

from tests.faults.harness import rounds
from tests.integration.test_webhooks import PATIENT, secret_of, send
from tests.patience import PATIENCE
from tests.receiver import HANG, receiving
from tests.service import (
    check_nothing_lost,
    query,
    running,
    running_without_model,
    wait_for,
    wait_until_gone,
)

PENDING = "SELECT count(*) FROM deliveries WHERE status = 'PENDING'"


def test_pending_webhooks_of_a_killed_service_are_delivered_later(
    data: Path,
) -> None:
    accepted: dict[str, int] = {}
    with receiving() as receiver:
        for _ in range(rounds(1, 50)):
            receiver.answers.extend([HANG] * 4)
            with running(data, **PATIENT) as service:
                accepted |= {send(service, receiver.url()): 1 for _ in range(6)}
                for task_id in accepted:
                    assert service.finished(task_id)["status"] == "COMPLETED"
                wait_for(lambda: not receiver.answers, "calls under way")
                tree = service.tree()
                service.process.send_signal(signal.SIGKILL)
                service.process.wait(PATIENCE)
                wait_until_gone(tree)
            assert query(data, PENDING)[0][0] >= 6
        with running_without_model(data, **PATIENT) as service:
            wait_for(lambda: query(data, PENDING) == [(0,)], "every delivery")
            secret = secret_of(service)
            assert service.stop() == 0
        delivered = [call.verified(secret)["data"]["task_id"] for call in receiver.calls]
    assert set(delivered) == set(accepted)
    check_nothing_lost(data, accepted)
