"""The captioning calls: one image, several, and a task."""

import asyncio
import secrets
import time
from dataclasses import asdict

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import CaptiondError, QueueFull, TaskNotFound
from captiond.jobs import NewImage, Options, Outcome, Refused, task_id
from captiond.messages import Answer, Timings
from captiond.store import tasks
from captiond.web import schemas
from captiond.web.options import options_of
from captiond.web.problems import ImageRefused
from captiond.web.services import Services
from captiond.web.uploads import Form, FormSpec, Upload, received

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
        answer = await answer_for(services, upload, options)
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
        outcomes = await asyncio.gather(
            *(outcome_in_batch(services, upload, options) for upload in form.uploads)
        )
    results = [
        schemas.image_result(upload.filename, sha256_of(upload), outcome)
        for upload, outcome in zip(form.uploads, outcomes, strict=True)
    ]
    seconds = time.perf_counter() - started
    return JSONResponse({"results": results, "total_processing_time": round(seconds, 4)})


async def async_batch_caption(request: Request) -> Response:
    """`POST /async-batch-caption`: answered once files and rows are on disk."""
    services = services_of(request)
    services.desk.check_open()
    await check_queue(services)
    async with received(request, services, TASK) as form:
        options, now = options_of(form.fields, services.settings), time.time()
        new_id = task_id(now, secrets.token_hex(16))
        images = [new_image(upload) for upload in form.uploads]
        # Shielded: a commit that is under way must not be answered by removing its files.
        await asyncio.shield(accept(services, form, new_id, images, options, now))
    services.desk.announce_task()
    status_url = str(request.app.url_path_for("task_status", task_id=new_id))
    return JSONResponse(
        schemas.task_accepted(new_id, len(images)),
        status_code=202,
        headers={"Location": status_url, "Retry-After": str(POLL_SECONDS)},
    )


async def accept(
    services: Services,
    form: Form,
    new_id: str,
    images: list[NewImage],
    options: Options,
    now: float,
) -> None:
    await tasks.create_task(services.engine, new_id, images, options, now=now)
    form.keep()


async def task_status(request: Request) -> Response:
    """`GET /async-batch-caption/status/{task_id}`"""
    services = services_of(request)
    task = await tasks.read_task(services.engine, request.path_params["task_id"])
    if task is None:
        raise TaskNotFound("Task not found.")
    return JSONResponse(schemas.task_status(task))


async def check_queue(services: Services) -> None:
    most = services.settings.limits.queued_images
    if await tasks.count_open(services.engine) >= most:
        raise QueueFull(f"{most} images wait already; try again later", retry_after=30)


async def answer_for(services: Services, upload: Upload, options: Options) -> Answer:
    if upload.file is None:
        assert upload.refused is not None
        return Answer(NO_TICKET, upload.refused)
    seconds = services.settings.limits.request_seconds
    file = upload.file
    return await services.desk.ask(file.path, file.sha256, options, seconds=seconds)


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


def new_image(upload: Upload) -> NewImage:
    file = upload.file
    return NewImage(
        filename=upload.filename,
        spool=file.path.name if file else None,
        sha256=file.sha256 if file else None,
        size=file.size if file else 0,
        refused=upload.refused,
    )


def sha256_of(upload: Upload) -> str | None:
    return upload.file.sha256 if upload.file else None
