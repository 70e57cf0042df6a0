"""Handlers of the calls that caption images at once: one image, or several."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import ModelNotReady, QueueFull
from captiond.jobs import Options, Outcome, Refused
from captiond.messages import Answer, Timings
from captiond.web import schemas
from captiond.web.access.admission import admission_of
from captiond.web.access.identity import client_of
from captiond.web.disconnects import unless_disconnected
from captiond.web.options import options_of
from captiond.web.problems import ImageRefused
from captiond.web.services import Services, services_of
from captiond.web.uploading.forms import FormSpec, Upload
from captiond.web.uploading.uploads import received

ONE_IMAGE = FormSpec("image", single=True)
SEVERAL_IMAGES = FormSpec("images", single=False)
SMALL_BATCH = 50  # images; the body of a smaller one takes less time than a thread is worth
NO_TICKET = -1  # stands in the answer for an image that was refused before it was sent on
log = structlog.get_logger()


async def caption(request: Request) -> Response:
    """Caption one image, and answer when it is captioned."""
    started, services = time.perf_counter(), services_of(request)
    known_only = services.supervisor.check_answerable()
    async with received(request, services, ONE_IMAGE) as form:
        upload, options = form.uploads[0], options_of(form.fields, services.settings)
        admission_of(request).hold_images(1)
        received_at = time.perf_counter()
        (answer,) = await unless_disconnected(
            request, answers_to(request, [upload], options, known_only=known_only)
        )
    outcome = answer.outcome
    check_model_ready(services, [outcome], known_only=known_only)
    if isinstance(outcome, Refused):
        raise ImageRefused(outcome)
    seconds = time.perf_counter() - started
    log_timings(seconds, received_at - started, answer.timings)
    body = schemas.caption_response(upload.filename, sha256_of(upload), outcome, seconds)
    return JSONResponse(body)


async def batch_caption(request: Request) -> Response:
    """Caption several images, and answer when all are captioned."""
    started, services = time.perf_counter(), services_of(request)
    known_only = services.supervisor.check_answerable()
    async with received(request, services, SEVERAL_IMAGES) as form:
        options = options_of(form.fields, services.settings)
        admission_of(request).hold_images(sum(upload.refused is None for upload in form.uploads))
        answers = await unless_disconnected(
            request, answers_to(request, form.uploads, options, known_only=known_only)
        )
    outcomes = [answer.outcome for answer in answers]
    check_model_ready(services, outcomes, known_only=known_only)
    if len(outcomes) <= SMALL_BATCH:
        body = batch_body(form.uploads, outcomes, started)
    else:
        body = await asyncio.to_thread(batch_body, form.uploads, outcomes, started)
    return Response(body, media_type="application/json")


def batch_body(uploads: list[Upload], outcomes: list[Outcome], started: float) -> bytes:
    """Return the body for several images as JSON. `started` is when the request began."""
    results = [
        schemas.image_result(upload.filename, sha256_of(upload), outcome)
        for upload, outcome in zip(uploads, outcomes, strict=True)
    ]
    seconds = time.perf_counter() - started
    body: schemas.BatchResponse = {
        "results": results,
        "total_processing_time": round(seconds, 4),
    }
    return schemas.encoded(body)


async def answers_to(
    request: Request, uploads: Sequence[Upload], options: Options, *, known_only: bool
) -> list[Answer]:
    """Return one answer for each upload, in their order.

    They are from the supervisor, except for images that were refused at upload.

    Raises:
        QueueFull: the request was not accepted.
    """
    services = services_of(request)
    answers = await services.supervisor.caption(
        [upload.image for upload in uploads if upload.image is not None],
        options,
        client_of(request),
        seconds=services.settings.limits.request_seconds,
        known_only=known_only,
    )
    check_accepted(answers)
    others = iter(answers)
    return [
        next(others) if upload.refused is None else Answer(NO_TICKET, upload.refused)
        for upload in uploads
    ]


def check_accepted(answers: list[Answer]) -> None:
    """Return if the queue has taken a request. It takes all images of a request or none.

    Raises:
        QueueFull: it has taken none.
    """
    for answer in answers:
        if isinstance(answer.outcome, Refused) and answer.outcome.code == QueueFull.code:
            raise QueueFull(answer.outcome.error)


def check_model_ready(services: Services, outcomes: list[Outcome], *, known_only: bool) -> None:
    """Return if no image needs a model that is not loaded yet.

    Raises:
        ModelNotReady: the request asked for known images only, and one of them is not known.
    """
    for outcome in outcomes if known_only else ():
        if isinstance(outcome, Refused) and outcome.code == ModelNotReady.code:
            raise ModelNotReady(services.supervisor.state.reasons or (outcome.error,))


def log_timings(seconds: float, upload: float, timings: Timings) -> None:
    """Log how the `processing_time` of one image is made up, in milliseconds."""
    other = seconds - upload - timings.decode - timings.queue - timings.model - timings.tags
    parts = {"total": seconds, "upload": upload, **asdict(timings), "other": other}
    log.debug("processing_time", **{name: round(part * 1000, 2) for name, part in parts.items()})


def sha256_of(upload: Upload) -> str | None:
    """Return the hash of an uploaded image, or None if it was refused."""
    return upload.image.sha256 if upload.image else None
