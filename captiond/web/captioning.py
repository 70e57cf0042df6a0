"""Handlers of the calls that caption images at once: one image, or several."""

import asyncio
import time
from dataclasses import asdict

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import CaptiondError, ModelNotReady
from captiond.jobs import Options, Outcome, Refused
from captiond.messages import Answer, Timings
from captiond.web import schemas
from captiond.web.admission import admission_of
from captiond.web.disconnects import unless_disconnected
from captiond.web.forms import Form, FormSpec, Upload
from captiond.web.options import options_of
from captiond.web.problems import ImageRefused
from captiond.web.services import Services, services_of
from captiond.web.uploads import received

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
        answer = await unless_disconnected(
            request, answer_for(services, upload, options, known_only=known_only)
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
        outcomes = await unless_disconnected(
            request, outcomes_of(services, form, options, known_only=known_only)
        )
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


async def outcomes_of(
    services: Services, form: Form, options: Options, *, known_only: bool
) -> list[Outcome]:
    """Return one outcome for each upload, in their order."""
    return await asyncio.gather(
        *(
            outcome_in_batch(services, upload, options, known_only=known_only)
            for upload in form.uploads
        )
    )


async def outcome_in_batch(
    services: Services, upload: Upload, options: Options, *, known_only: bool
) -> Outcome:
    """Return the outcome of one image of several. An error becomes the outcome of that image."""
    try:
        return (await answer_for(services, upload, options, known_only=known_only)).outcome
    except CaptiondError as error:
        return Refused.of(error)


async def answer_for(
    services: Services, upload: Upload, options: Options, *, known_only: bool
) -> Answer:
    """Return the answer for one image, from the supervisor unless it was refused at upload.

    Raises:
        RequestTimeout: there is no answer within `[limits] request_seconds`.
    """
    if upload.image is None:
        assert upload.refused is not None
        return Answer(NO_TICKET, upload.refused)
    seconds = services.settings.limits.request_seconds
    return await services.supervisor.caption(
        upload.image, options, seconds=seconds, known_only=known_only
    )


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
