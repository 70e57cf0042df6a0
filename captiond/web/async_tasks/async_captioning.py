"""Handlers of the calls for tasks: accept one, show it, cancel it."""

import secrets
import time
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import CaptiondError, TaskNotFound
from captiond.jobs import Generation, NewImage, NewTask, Options
from captiond.jobs import task_id as new_task_id
from captiond.store import tasks
from captiond.store.tasks import Backlog
from captiond.web import schemas
from captiond.web.access.identity import client_of
from captiond.web.access.ownership import check_owner, check_waiting
from captiond.web.async_tasks.callback_url import FIELD as CALLBACK_FIELD
from captiond.web.async_tasks.callback_url import callback_url_of
from captiond.web.async_tasks.idempotency import digest_of, key_of
from captiond.web.async_tasks.queue_limit import check_queue
from captiond.web.async_tasks.status_response import present_status, status_response
from captiond.web.async_tasks.task_queue import TaskQueue, backlog_of
from captiond.web.options import form_options
from captiond.web.services import Services, services_of
from captiond.web.uploading.forms import Form, FormSpec
from captiond.web.uploading.uploads import received, shielded

TASK_IMAGES = FormSpec("images", single=False, durable=True)
POLL_SECONDS = 2  # when a client should ask for a new task's status


async def async_batch_caption(request: Request) -> Response:
    """Accept images as a task, and answer once its files and rows are durable."""
    services, key = services_of(request), key_of(request)
    services.supervisor.check_open()
    length = request.headers.get("content-length", "")
    await check_room(services, Backlog(1, int(length) if length.isdigit() else 1))
    await check_waiting(request, 1)
    async with received(request, services, TASK_IMAGES) as form:
        callback_url = callback_url_of(form, services.settings.webhooks)
        options = form_options(form, TASK_IMAGES, services.settings, also=(CALLBACK_FIELD,))
        generation = options.generation or services.settings.generation.defaults
        task = replace(
            new_task(form, options, key, time.time()),
            callback_url=callback_url,
            client=client_of(request),
            cost=generation.cost / Generation().cost,
        )
        await check_room(services, backlog_of(task))
        await check_waiting(request, sum(image.refused is None for image in task.images))
        # If the client disconnects during the commit, the files must not be removed.
        task_id = await shielded(accept(services.queue, form, task))
    services.supervisor.notify_queued()
    status_url = str(request.app.url_path_for("task_status", task_id=task_id))
    return JSONResponse(
        schemas.task_accepted(task_id, len(task.images)),
        status_code=202,
        headers={"Location": status_url, "Retry-After": str(POLL_SECONDS)},
    )


async def task_status(request: Request) -> Response:
    """Return a task with the results that it has so far, or those of a part of its images."""
    statuses, task_id = services_of(request).statuses, request.path_params["task_id"]
    await check_owner(request, task_id)
    return await status_response(request, statuses, task_id)


async def cancel_task(request: Request) -> Response:
    """Cancel a task, and return it. Images without a result do not get one any more."""
    services, task_id = services_of(request), request.path_params["task_id"]
    await check_owner(request, task_id)
    cancelled = await tasks.cancel(services.engine, task_id, now=time.time())
    if cancelled is None:
        raise TaskNotFound("Task not found.")
    services.supervisor.notify_cancelled(cancelled.images, cancelled.spool)
    # Conditions and pages are for reading. A 304 or a 422 would hide that the task is cancelled.
    return await present_status(services.statuses, task_id)


async def check_room(services: Services, new: Backlog) -> None:
    """Return if the queue takes a task of so many images and bytes. Raises QueueFull otherwise."""
    backlog, rate = await services.queue.backlog(), services.supervisor.state.bulk_rate
    check_queue(backlog, new, services.settings.limits, rate)


async def accept(queue: TaskQueue, form: Form, task: NewTask) -> str:
    """Write a task, and return its id: an earlier task's if the client has sent this one before.

    The form's file is kept unless it is certain that no row refers to it. If it is kept without
    need, the next sweep removes it.

    Raises:
        KeyReused, StoreError: the task is not accepted.
    """
    form.kept = True
    try:
        task_id = await queue.add(task)
    except CaptiondError:
        form.kept = False
        raise
    form.kept = task_id == task.id
    return task_id


def new_task(form: Form, options: Options, key: str | None, now: float) -> NewTask:
    """Return the task that a form asks for. `key` is the request's Idempotency-Key."""
    return NewTask(
        id=new_task_id(now, secrets.token_hex(16)),
        spool=form.file,
        images=tuple(
            NewImage(upload.filename, upload.image, upload.refused) for upload in form.uploads
        ),
        created_at=now,
        options=options,
        key=key,
        digest=digest_of(form) if key is not None else None,
    )
