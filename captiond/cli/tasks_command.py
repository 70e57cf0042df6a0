"""`captiond tasks`: show and manage the tasks in the database of a data folder."""

import asyncio
import sys
import time
from typing import Annotated, Any

import typer

from captiond.cli.arguments import USUAL_LIMIT, Config, Data, Set, limit_option, settings_from
from captiond.errors import TaskNotFound
from captiond.jobs import Status
from captiond.settings.config import Settings

tasks_app = typer.Typer(
    no_args_is_help=True,
    help="Show and manage tasks and their webhooks, whether or not the service runs.",
)
TaskId = Annotated[
    str, typer.Argument(metavar="TASK", help="Id of the task, as in captiond tasks list.")
]


@tasks_app.command("list")
def list_tasks(
    *,
    status: Annotated[
        Status | None, typer.Option(case_sensitive=False, help="List only tasks of this status.")
    ] = None,
    limit: Annotated[int, limit_option("tasks")] = USUAL_LIMIT,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """List the newest tasks: as a table on a terminal, as JSON lines in a pipe."""
    from captiond.cli import task_views

    settings = settings_from(config, {}, data=data, assignments=assignments)
    task_views.show_list(asyncio.run(newest(settings, limit, status)), sys.stdout)


@tasks_app.command()
def show(
    task: TaskId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Show a task with its images and its webhook: as tables on a terminal, as JSON in a pipe."""
    from captiond.cli import task_views

    settings = settings_from(config, {}, data=data, assignments=assignments)
    task_views.show_task(asyncio.run(read(settings, task)), sys.stdout)


@tasks_app.command()
def cancel(
    task: TaskId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Cancel a task. Images that have no result yet are not captioned any more."""
    settings = settings_from(config, {}, data=data, assignments=assignments)
    asyncio.run(cancel_task(settings, task))
    typer.echo(f"{task}: cancelled")


@tasks_app.command()
def retry(
    task: TaskId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Caption failed images of a task again.

    Only images that may have failed because of the machine can be retried: those with the code
    poison_image, image_too_slow, too_much_memory, out_of_memory or spool_error. Their files are
    kept for as many days as the setting retention.retry_days says.
    """
    settings = settings_from(config, {}, data=data, assignments=assignments)
    number = asyncio.run(retry_task(settings, task))
    typer.echo(f"{task}: {number} images wait again")


@tasks_app.command()
def redeliver(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Id of the task, unless --failed is given.")
    ] = None,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="Deliver every webhook whose attempts have all failed.")
    ] = False,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Deliver the webhook of a task again, even if it was delivered before.

    A running service sends it at once, otherwise the next start does.
    """
    if (task is None) is not failed:
        raise typer.BadParameter("give either a task or --failed")
    settings = settings_from(config, {}, data=data, assignments=assignments)
    number = asyncio.run(deliver_anew(settings, task))
    typer.echo(f"webhooks to deliver: {number}")


async def newest(settings: Settings, limit: int, status: Status | None) -> list[dict[str, Any]]:
    """Return the newest tasks, without their images."""
    from captiond.cli.database import opened
    from captiond.store.listing import newest_tasks
    from captiond.web.task_schemas import task_item

    async with opened(settings) as engine:
        tasks = await newest_tasks(engine, limit, status)
    return [{**task_item(task.state, task.counts)} for task in tasks]


async def read(settings: Settings, task_id: str) -> dict[str, Any]:
    """Return a task as the HTTP API does, with the deliveries of its webhook.

    Raises:
        TaskNotFound
    """
    from captiond.cli.database import opened
    from captiond.cli.delivery_views import delivery_items
    from captiond.store import deliveries, tasks
    from captiond.web.schemas import task_status

    async with opened(settings) as engine:
        task = await tasks.read_task(engine, task_id)
        if task is None:
            raise not_found(task_id)
        owed = await deliveries.of_task(engine, task_id)
    return {**task_status(task), "deliveries": delivery_items(owed)}


async def cancel_task(settings: Settings, task_id: str) -> None:
    """Cancel a task and remove its file from the spool.

    Raises:
        TaskNotFound, TaskFinished
    """
    from captiond.cli.database import opened
    from captiond.spool import open_spool
    from captiond.store import tasks

    async with opened(settings) as engine:
        cancelled = await tasks.cancel(engine, task_id, now=time.time())
    if cancelled is None:
        raise not_found(task_id)
    if cancelled.spool is not None:
        open_spool(settings).remove([cancelled.spool])


async def retry_task(settings: Settings, task_id: str) -> int:
    """Requeue the failed images of a task that can be retried, and return their number.

    Raises:
        TaskNotFound, NothingToRetry
    """
    from captiond.cli.database import opened
    from captiond.store import tasks

    async with opened(settings) as engine:
        return await tasks.retry(engine, task_id)


async def deliver_anew(settings: Settings, task_id: str | None) -> int:
    """Schedule deliveries again, and return their number.

    They are those of one task or, if `task_id` is None, all whose attempts failed.

    Raises:
        TaskNotFound: there is no such task, or it has no webhook.
    """
    from captiond.cli.database import opened
    from captiond.store import deliveries

    async with opened(settings) as engine:
        if task_id is None:
            return await deliveries.redeliver_failed(engine, now=time.time())
        number = await deliveries.redeliver(engine, task_id, now=time.time())
    if number == 0:
        raise TaskNotFound(
            f"{task_id}: there is no webhook of this task: it is unknown, is not finished, or has "
            "no callback_url; captiond tasks show says which"
        )
    return number


def not_found(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"{task_id}: there is no such task; captiond tasks list shows the newest")
