"""Whose tasks are whose: which of them a request may read, and how many more a client may send."""

from starlette.requests import Request

from captiond.errors import TaskNotFound
from captiond.keys import Scope
from captiond.store import queueview, tasks
from captiond.store.results import is_storable
from captiond.web.access.admission import ClientLimited, admission_of, check_images
from captiond.web.access.guard import key_in
from captiond.web.access.identity import client_of
from captiond.web.problems import ListRefused
from captiond.web.services import services_of

RETRY_SECONDS = 30  # until images of the client's tasks are captioned


async def check_owner(request: Request, task_id: str) -> None:
    """Return if the request may read and cancel a task.

    Without keys, whoever knows a task's id may. With keys, only the key that made the task may, and
    every key with the scope admin. To others the task does not exist.

    Raises:
        TaskNotFound: the task belongs to another client, or there is no such task.
        StoreError: the database cannot be read now.
    """
    if not is_storable(task_id):  # PostgreSQL would refuse the statement
        raise TaskNotFound("Task not found.")
    key = key_in(request)
    if key is None or key.permits(Scope.ADMIN):
        return
    # guard: tasks-have-owners
    if await tasks.owner_of(services_of(request).engine, task_id) != key.client.name:
        raise TaskNotFound("Task not found.")


def listed_client(request: Request) -> str | None:
    """Return the name of the client whose tasks a request may list, or None if it may list all.

    With keys, a key may list its own tasks, and a key with the scope admin those of all. Without
    keys, whoever lists tasks could read and cancel all of them, for their ids are all that it
    takes. So `[clients] lists` has to permit it.

    Raises:
        ListRefused: the settings do not permit it.
    """
    key = key_in(request)
    if key is not None:
        # guard: lists-have-owners
        return None if key.permits(Scope.ADMIN) else key.client.name
    match services_of(request).settings.clients.lists:
        case "all":
            return None
        case "own":
            return client_of(request).name
        case _:
            raise ListRefused(
                "a service without keys lists no tasks, because whoever knows an id can read and "
                "cancel the task; create a key with captiond keys create, or set [clients] lists"
            )


async def check_waiting(request: Request, images: int) -> None:
    """Return if so many more images of tasks of the request's client may wait.

    Raises:
        TooManyImages: the client may never have so many images waiting in tasks.
        TooManyRequests: too many would wait.
        StoreError: the database cannot be read now.
    """
    most = admission_of(request).task_images
    if not most:
        return
    check_images(images, most)
    backlog = await queueview.backlog(services_of(request).engine, client_of(request).name)
    if backlog.images + images > most:
        raise ClientLimited(
            f"{backlog.images} images of this client wait in tasks; at most {most} may wait",
            limit="task_images",
            retry_after=RETRY_SECONDS,
        )
