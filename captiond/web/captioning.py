"""The captioning calls: one image, several, and a task."""

import asyncio
import secrets
import time
from dataclasses import asdict, replace

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import CaptiondError, QueueFull, TaskNotFound
from captiond.jobs import NewImage, NewTask, Options, Outcome, Refused
from captiond.jobs import task_id as new_task_id
from captiond.messages import Answer, Timings
from captiond.store import tasks
from captiond.web import schemas
from captiond.web.acceptance import Acceptance
from captiond.web.callback_url import FIELD as CALLBACK_FIELD
from captiond.web.callback_url import callback_url_of
from captiond.web.idempotency import digest_of, key_of
from captiond.web.options import options_of
from captiond.web.presence import unless_gone
from captiond.web.problems import ImageRefused
from captiond.web.services import Services
from captiond.web.spool_limit import check_spool
from captiond.web.uploads import Form, FormSpec, Upload, in_thread, received, to_its_end

ONE = FormSpec("image", single=True)
SEVERAL = FormSpec("images", single=False)
TASK = FormSpec("images", single=False, durable=True)
POLL_SECONDS = 2
NO_TICKET = -1  # of an image that was refused before it was ever asked for
log = structlog.get_logger()


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def caption(request: Request) -> Response:
    """`POST /caption`"""
    started, services = time.perf_counter(), services_of(request)
    services.desk.check_ready()
    async with received(request, services, ONE) as form:
        upload, options = form.uploads[0], options_of(form.fields, services.settings)
        received_at = time.perf_counter()
        answer = await unless_gone(request, answer_for(services, upload, options))
    outcome = answer.outcome
    if isinstance(outcome, Refused):
        raise ImageRefused(outcome)
    seconds = time.perf_counter() - started
    log_breakdown(seconds, received_at - started, answer.timings)
    return JSONResponse(schemas.caption(upload.filename, sha256_of(upload), outcome, seconds))


async def batch_caption(request: Request) -> Response:
    """`POST /batch-caption`"""
    started, services = time.perf_counter(), services_of(request)
    services.desk.check_ready()
    async with received(request, services, SEVERAL) as form:
        options = options_of(form.fields, services.settings)
        outcomes = await unless_gone(request, outcomes_of(services, form, options))
    results = [
        schemas.image_result(upload.filename, sha256_of(upload), outcome)
        for upload, outcome in zip(form.uploads, outcomes, strict=True)
    ]
    seconds = time.perf_counter() - started
    return JSONResponse({"results": results, "total_processing_time": round(seconds, 4)})


async def async_batch_caption(request: Request) -> Response:
    """`POST /async-batch-caption`: answered once files and rows are on disk."""
    services, key = services_of(request), key_of(request)
    services.desk.check_open()
    await check_queue(services)
    check_spool(request, services.desk.state, services.settings.limits)
    async with received(request, services, TASK) as form:
        callback_url = callback_url_of(form, services.settings.webhooks)
        options = options_of(form.fields, services.settings, also=(CALLBACK_FIELD,))
        task = new_task(form, options, key, time.time())
        task = replace(task, callback_url=callback_url)
        # A commit that is under way must not be answered by removing its files.
        task_id = await to_its_end(accept(services.acceptance, form, task))
    services.desk.announce_task()
    status_url = str(request.app.url_path_for("task_status", task_id=task_id))
    return JSONResponse(
        schemas.task_accepted(task_id, len(task.images)),
        status_code=202,
        headers={"Location": status_url, "Retry-After": str(POLL_SECONDS)},
    )


async def accept(acceptance: Acceptance, form: Form, task: NewTask) -> str:
    """Write the task; its id, which is an earlier one's if this is the same request again.

    The file is kept unless it is known that no row owns it: what is left over is swept.
    """
    form.kept = True
    try:
        task_id = await acceptance.accept(task)
    except CaptiondError:
        form.kept = False
        raise
    form.kept = task_id == task.id
    return task_id


async def cancel_task(request: Request) -> Response:
    """`DELETE /async-batch-caption/{task_id}`: what has no result yet never gets one."""
    services, task_id = services_of(request), request.path_params["task_id"]
    cancelled = await tasks.cancel(services.engine, task_id, now=time.time())
    if cancelled is None:
        raise TaskNotFound("Task not found.")
    services.desk.announce_cancel(cancelled.images)
    if cancelled.spool is not None:
        await in_thread(services.spool.remove, [cancelled.spool])
    return await task_status(request)


async def task_status(request: Request) -> Response:
    """`GET /async-batch-caption/status/{task_id}`"""
    services = services_of(request)
    task = await tasks.read_task(services.engine, request.path_params["task_id"])
    if task is None:
        raise TaskNotFound("Task not found.")
    return JSONResponse(schemas.task_status(task))


async def check_queue(services: Services) -> None:
    most = services.settings.limits.queued_images
    if await services.acceptance.queued() >= most:
        raise QueueFull(f"{most} images wait already; try again later", retry_after=30)


async def answer_for(services: Services, upload: Upload, options: Options) -> Answer:
    if upload.image is None:
        assert upload.refused is not None
        return Answer(NO_TICKET, upload.refused)
    seconds = services.settings.limits.request_seconds
    return await services.desk.ask(upload.image, options, seconds=seconds)


async def outcomes_of(services: Services, form: Form, options: Options) -> list[Outcome]:
    """One outcome for each upload, in their order."""
    return await asyncio.gather(
        *(outcome_in_batch(services, upload, options) for upload in form.uploads)
    )


async def outcome_in_batch(services: Services, upload: Upload, options: Options) -> Outcome:
    """In a batch, what befalls one image is that image's result and no other's."""
    try:
        return (await answer_for(services, upload, options)).outcome
    except CaptiondError as error:
        return Refused.of(error)


def log_breakdown(seconds: float, upload: float, timings: Timings) -> None:
    """Where the `processing_time` of one image went, in milliseconds."""
    other = seconds - upload - timings.decode - timings.queue - timings.model - timings.tags
    parts = {"total": seconds, "upload": upload, **asdict(timings), "other": other}
    log.debug("processing_time", **{name: round(part * 1000, 2) for name, part in parts.items()})


def new_task(form: Form, options: Options, key: str | None, now: float) -> NewTask:
    return NewTask(
        id=new_task_id(now, secrets.token_hex(16)),
        spool=form.file,
        images=tuple(new_image(upload) for upload in form.uploads),
        created_at=now,
        options=options,
        key=key,
        digest=digest_of(form) if key is not None else None,
    )


def new_image(upload: Upload) -> NewImage:
    return NewImage(upload.filename, upload.image, upload.refused)


def sha256_of(upload: Upload) -> str | None:
    return upload.image.sha256 if upload.image else None
