"""Handlers of the calls for tasks: accept one, show it, cancel it, retry it."""

import secrets
import time
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import CaptiondError, StoreUncertain, TaskNotFound
from captiond.jobs import Generation, NewImage, NewTask, Options
from captiond.jobs import task_id as new_task_id
from captiond.keys import Scope
from captiond.settings.config import Settings
from captiond.shielding import shielded
from captiond.store import tasks
from captiond.store.queueview import Backlog
from captiond.store.replays import EarlierTask, earlier_task
from captiond.web import schemas
from captiond.web.access.guard import key_in
from captiond.web.access.identity import client_of
from captiond.web.access.ownership import check_owner, check_waiting
from captiond.web.async_tasks.callback_url import FIELD as CALLBACK_FIELD
from captiond.web.async_tasks.callback_url import callback_url_of
from captiond.web.async_tasks.encoded_task import Page
from captiond.web.async_tasks.idempotency import digest_of, key_of
from captiond.web.async_tasks.long_poll import wait_for_news, wait_of
from captiond.web.async_tasks.queue_limit import check_queue
from captiond.web.async_tasks.status_response import present_status, status_response
from captiond.web.async_tasks.task_queue import TaskQueue, backlog_of
from captiond.web.disconnects import unless_disconnected
from captiond.web.options import form_options
from captiond.web.origin import origin_of, trace_upload
from captiond.web.root_path import root_of
from captiond.web.services import Services, services_of
from captiond.web.uploading.forms import Form, FormSpec
from captiond.web.uploading.uploads import received

TASK_IMAGES = FormSpec("images", single=False, durable=True)
COMPARED_IMAGES = replace(TASK_IMAGES, durable=False, stored=False)
WITHOUT_RESULTS = Page(offset=0, limit=0)
POLL_SECONDS = 2  # when a client should ask for a new task's status


async def async_batch_caption(request: Request) -> Response:
    """Accept images as a task, and answer once its files and rows are durable."""
    services, key = services_of(request), key_of(request)
    services.supervisor.check_open()
    # guard: replay-of-a-full-queue
    if (earlier := await earlier_of(request, key)) is not None:
        return await replayed(request, earlier)
    length = request.headers.get("content-length", "")
    await check_room(services, Backlog(1, int(length) if length.isdigit() else 1))
    await check_waiting(request, 1)
    begun = time.perf_counter()
    async with received(request, services, TASK_IMAGES) as form:
        trace_upload(request, begun)
        callback_url = callback_url_of(form, services.settings.webhooks)
        options = form_options(form, TASK_IMAGES, services.settings, also=(CALLBACK_FIELD,))
        task = replace(
            new_task(form, replace(options, origin=origin_of(request)), key, time.time()),
            callback_url=callback_url,
            client=client_of(request),
            cost=cost_of_image(options, len(form.uploads), services.settings),
        )
        if await earlier_of(request, key) is None:  # the same request may have been faster
            await check_room(services, backlog_of(task))
            await check_waiting(request, sum(image.refused is None for image in task.images))
        # If the client disconnects during the commit, the files must not be removed.
        task_id = await shielded(accept(services.queue, form, task))
    services.supervisor.notify_queued()
    return accepted(request, task_id, len(task.images))


def cost_of_image(options: Options, images: int, settings: Settings) -> float:
    """Return the estimated cost of each of so many images; 1 is that of a usual one."""
    defaults, language = settings.default_generation, settings.translation.language
    return options.cost(defaults, language, max(1, images)) / Generation().cost


async def earlier_of(request: Request, key: str | None) -> EarlierTask | None:
    """Return the task that the client has sent with this Idempotency-Key, or None."""
    if key is None:
        return None
    return await earlier_task(services_of(request).engine, client_of(request), key)


async def replayed(request: Request, earlier: EarlierTask) -> Response:
    """Answer a request whose Idempotency-Key has a task, with that task.

    It adds no work, so a full queue, a full spool and the limits of waiting images do not matter.

    Raises:
        KeyReused: the request is not the same as the one that the task is from.
    """
    async with received(request, services_of(request), COMPARED_IMAGES) as form:
        earlier.check_same(digest_of(form))
    return accepted(request, earlier.id, len(form.uploads))


def accepted(request: Request, task_id: str, images: int) -> Response:
    """Return the response for a task that is stored."""
    path = request.app.url_path_for("task_status", task_id=task_id)
    status_url = root_of(request.scope) + str(path)
    return JSONResponse(
        schemas.task_accepted(task_id, images),
        status_code=202,
        headers={"Location": status_url, "Retry-After": str(POLL_SECONDS)},
    )


async def task_status(request: Request) -> Response:
    """Return a task with the results that it has so far, or those of a part of its images."""
    services, task_id = services_of(request), request.path_params["task_id"]
    await check_owner(request, task_id)
    if seconds := wait_of(request.query_params):
        known = request.headers.get("if-none-match")
        await unless_disconnected(request, wait_for_news(services.watch, task_id, known, seconds))
    return await status_response(request, services.statuses, task_id)


async def retry_task(request: Request) -> Response:
    """Let the failed images of a task wait again that may succeed now, and return the task."""
    services, task_id = services_of(request), request.path_params["task_id"]
    services.supervisor.check_open()
    await check_owner(request, task_id)
    await check_waiting(request, 1)
    await tasks.retry(services.engine, task_id)
    services.supervisor.notify_queued()
    services.supervisor.notify_changed(task_id)
    return await present_status(services.statuses, task_id, readable_part(request))


async def cancel_task(request: Request) -> Response:
    """Cancel a task, and return it. Images without a result do not get one any more."""
    services, task_id = services_of(request), request.path_params["task_id"]
    await check_owner(request, task_id)
    cancelled = await tasks.cancel(services.engine, task_id, now=time.time())
    if cancelled is None:
        raise TaskNotFound("Task not found.")
    services.supervisor.notify_cancelled(cancelled.images, cancelled.spool)
    services.supervisor.notify_changed(task_id)
    # Conditions and pages are for reading. A 304 or a 422 would hide that the task is cancelled.
    return await present_status(services.statuses, task_id, readable_part(request))


def readable_part(request: Request) -> Page | None:
    """Return the part of a task that a request for a change may see: None is all of it.

    Results are shown only to those who may read them: a key may be allowed to send, to cancel and
    to retry tasks, and not to read.
    """
    key = key_in(request)
    # guard: results-need-read
    return None if key is None or key.permits(Scope.READ) else WITHOUT_RESULTS


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
    # guard: file-of-an-uncertain-task
    except StoreUncertain:
        raise
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
