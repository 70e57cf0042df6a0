"""The states of tasks and images, and the sentences that clients of the kept API read."""

import re
import signal

import pytest

from captiond.deaths import ALONE, KILLED_ALONE, Death, blame
from captiond.jobs import (
    IMAGE_TRANSITIONS,
    TASK_TRANSITIONS,
    Captioned,
    ImageView,
    Refused,
    Status,
    TaskView,
    Transitions,
    message,
    states_before,
    task_id,
)

DONE = ImageView("a.png", None, Status.COMPLETED, Captioned("a cat", ("cat",), "m", 1, 1))
BAD = ImageView("b.png", None, Status.FAILED, Refused("not an image", "not_an_image"))
OPEN = ImageView("c.png", None, Status.PENDING, None)


def view(status: Status, *images: ImageView) -> TaskView:
    return TaskView("task_1_a", status, 0.0, None, None, images)


@pytest.mark.parametrize("transitions", [IMAGE_TRANSITIONS, TASK_TRANSITIONS])
def test_every_state_can_be_reached_and_a_cancel_is_final(transitions: Transitions) -> None:
    assert set(transitions) == set(Status)
    for status in Status:
        assert status.terminal == (status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED})
        assert status is Status.PENDING or states_before(transitions, status)
    assert transitions[Status.CANCELLED] == frozenset()


def test_the_states_before_a_result_are_those_from_which_each_may_follow() -> None:
    results = Status.COMPLETED, Status.FAILED
    assert states_before(IMAGE_TRANSITIONS, *results) == (Status.PROCESSING,)
    assert states_before(IMAGE_TRANSITIONS, Status.CANCELLED) == (
        Status.PENDING,
        Status.PROCESSING,
    )
    assert states_before(TASK_TRANSITIONS, Status.PENDING) == results


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (
            view(Status.COMPLETED, DONE, BAD),
            "Processing complete. 1/2 images captioned successfully in background. "
            "Total results: 2.",
        ),
        (
            view(Status.FAILED, BAD, BAD),
            "Processing failed for all 2 images in background. Total results: 2.",
        ),
        (view(Status.PENDING, OPEN), "Task is waiting to be processed. 1 files queued."),
        (view(Status.PROCESSING, DONE, OPEN), "Task is being processed. 1/2 images done."),
        (
            view(Status.CANCELLED, DONE, OPEN),
            "Task was cancelled. 1/2 images captioned before that.",
        ),
    ],
)
def test_messages(task: TaskView, told: str) -> None:
    assert message(task.status, task.counts) == told


def test_a_task_id_is_what_clients_know() -> None:
    assert re.fullmatch(r"task_1672531200_[0-9a-f]{32}", task_id(1672531200.9, "0f" * 16))


@pytest.mark.parametrize(
    ("exit_code", "death", "points"),
    [
        (0, Death.ORDERLY, 0),
        (1, Death.CRASHED, ALONE),
        (-signal.SIGSEGV, Death.CRASHED, ALONE),
        (-signal.SIGKILL, Death.KILLED, KILLED_ALONE),
    ],
)
def test_a_death_is_told_by_its_exit_code_and_a_kill_weighs_less(
    exit_code: int, death: Death, points: int
) -> None:
    assert Death.by(exit_code) is death
    assert blame(death, batch=1) == points
