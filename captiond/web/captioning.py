"""Handlers of the calls that caption images at once: one image, or several."""

import asyncio
import time
from dataclasses import asdict

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.jobs import Outcome, Refused
from captiond.messages import Timings
from captiond.web import schemas
from captiond.web.interactive import interactive_call
from captiond.web.problems import ImageRefused
from captiond.web.uploading.forms import FormSpec, Upload

ONE_IMAGE = FormSpec("image", single=True)
SEVERAL_IMAGES = FormSpec("images", single=False)
SMALL_BATCH = 50  # images; the body of a smaller one takes less time than a thread is worth
log = structlog.get_logger()


async def caption(request: Request) -> Response:
    """Caption one image, and answer when it is captioned."""
    async with interactive_call(request, ONE_IMAGE) as call:
        (answer,) = await call.answers(call.options())
    (upload,) = call.uploads
    if isinstance(answer.outcome, Refused):
        raise ImageRefused(answer.outcome)
    seconds = time.perf_counter() - call.started
    log_timings(seconds, call.received_at - call.started, answer.timings)
    body = schemas.caption_response(upload.filename, sha256_of(upload), answer.outcome, seconds)
    return JSONResponse(body)


async def batch_caption(request: Request) -> Response:
    """Caption several images, and answer when all are captioned."""
    async with interactive_call(request, SEVERAL_IMAGES) as call:
        answers = await call.answers(call.options())
    outcomes = [answer.outcome for answer in answers]
    if len(outcomes) <= SMALL_BATCH:
        body = batch_body(call.uploads, outcomes, call.started)
    else:
        body = await asyncio.to_thread(batch_body, call.uploads, outcomes, call.started)
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


def log_timings(seconds: float, upload: float, timings: Timings) -> None:
    """Log how the `processing_time` of one image is made up, in milliseconds."""
    stages = asdict(timings)
    other = seconds - upload - sum(stages.values())
    parts = {"total": seconds, "upload": upload, **stages, "other": other}
    log.debug("processing_time", **{name: round(part * 1000, 2) for name, part in parts.items()})


def sha256_of(upload: Upload) -> str | None:
    """Return the hash of an uploaded image, or None if it was refused."""
    return upload.image.sha256 if upload.image else None
