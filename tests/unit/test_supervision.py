"""Health as clients are told it, and the delay before a dead process is replaced."""

import asyncio
import errno
from multiprocessing.connection import Connection

import pytest

from captiond.messages import Health, Message, ModelInfo, Ready, Unready
from captiond.processes.children import Child
from captiond.processes.start import Start
from captiond.supervisor.health import ModelHealth
from captiond.supervisor.places import Place, restart_delay

MODEL = ModelInfo("m", "m", "f", "cpu", "float32", 8)


def test_from_starting_over_healthy_to_degraded_and_back() -> None:
    health = ModelHealth({"model0": None})
    assert health.state(draining=False).health is Health.STARTING
    health.hear("model0", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY
    assert health.state(draining=False).model == MODEL
    health.lose("model0")
    assert health.state(draining=False).health is Health.DEGRADED
    health.hear("model0", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY
    assert health.state(draining=True).draining


def test_a_missing_model_stays_the_reason_while_the_next_try_is_made() -> None:
    health = ModelHealth({"model0": None})
    health.hear("model0", Unready("run captiond pull", "model_missing"))
    health.lose("model0")
    state = health.state(draining=False)
    assert (state.health, state.code) == (Health.UNHEALTHY, "model_missing")
    assert state.reasons == ("run captiond pull",)


def test_one_device_of_two_is_enough() -> None:
    health = ModelHealth({"model0": None, "model1": None})
    health.hear("model0", Unready("no such GPU", "model_broken"))
    health.hear("model1", Ready(MODEL, 24))
    assert health.state(draining=False).health is Health.HEALTHY


@pytest.mark.parametrize(
    ("failures", "failed", "killed"),
    [(1, 0.25, 0.25), (2, 0.5, 0.5), (5, 4.0, 2.0), (50, 30.0, 2.0)],
)
def test_the_delay_doubles_and_has_an_end(failures: int, failed: float, killed: float) -> None:
    assert restart_delay(failures, killed=False) == failed
    assert restart_delay(failures, killed=True) == killed


@pytest.mark.anyio
async def test_a_start_that_the_machine_refuses_is_tried_again() -> None:
    stop, tries = asyncio.Event(), 0

    def refuse(name: str, connection: "Connection[Message, Message]") -> Start:
        nonlocal tries
        tries += 1
        if tries == 2:
            stop.set()
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    async def attend(place: Place, child: Child) -> None:
        raise AssertionError(f"{child.name} of {place.name} was started")

    await Place("model0", "captiond.worker.process", refuse, attend).keep(stop)
    assert tries == 2
