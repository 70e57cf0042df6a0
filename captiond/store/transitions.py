"""Guards for UPDATE statements, from the tables of legal transitions in `jobs`.

Every UPDATE of a state carries one of these conditions, and the number of changed rows is its
answer. No statement relies on another transaction waiting for it.
"""

from sqlalchemy import ColumnElement, String, literal_column

from captiond.jobs import IMAGE_TRANSITIONS, TASK_TRANSITIONS, Status, states_before
from captiond.store.expressions import unindexed
from captiond.store.tables import ImageRow, TaskRow

PENDING, PROCESSING = Status.PENDING.value, Status.PROCESSING.value
COMPLETED, FAILED, CANCELLED = (
    Status.COMPLETED.value,
    Status.FAILED.value,
    Status.CANCELLED.value,
)
OPEN = (PENDING, PROCESSING)
# The state of images that are found by their ids or their task. The index of the states would find
# all images of all tasks in this state first, which may be a million.
STATE = unindexed(ImageRow.status)
# The condition of the index of claimed images, word for word: with a parameter, a database could
# not know that the index has all of them.
IN_PROGRESS = ImageRow.status == literal_column("'PROCESSING'")
# The same for tasks. The index of their states is for lists of tasks.
TASK_STATE = unindexed(TaskRow.status)


def image_may_become(*new: Status) -> ColumnElement[bool]:
    """Return the condition that an image's state may change to each of the states `new`."""
    return STATE.in_([state.value for state in states_before(IMAGE_TRANSITIONS, *new)])


def image_moves(old: Status, new: Status, *, by_state: bool = False) -> ColumnElement[bool]:
    """Return the condition that an image is in state `old`, for a change to `new`.

    With `by_state`, the images are searched by it: of all tasks, those in state `old`, for which
    there is an index.

    Raises:
        ValueError: There is no such transition; the caller has a bug.
    """
    if new not in IMAGE_TRANSITIONS[old]:
        raise ValueError(f"an image that is {old} cannot become {new}")
    # With a parameter, a database would not know that the index has all images in this state.
    if by_state:
        return ImageRow.status == literal_column(f"'{old.value}'", String)
    return STATE.in_([old.value])


def task_may_become(*new: Status) -> ColumnElement[bool]:
    """Return the condition that a task's state may change to each of the states `new`."""
    return TASK_STATE.in_([state.value for state in states_before(TASK_TRANSITIONS, *new)])
