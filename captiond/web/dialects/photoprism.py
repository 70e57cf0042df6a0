"""The API of PhotoPrism's vision service: POST /api/v1/vision/caption and /api/v1/vision/labels.

https://github.com/photoprism/photoprism/tree/develop/internal/ai/vision
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import UrlRefused
from captiond.web.dialects.dialect_call import Captions, DialectCall, dialect_call, model_of
from captiond.web.dialects.findings import Label
from captiond.web.dialects.names import shown_name
from captiond.web.dialects.photoprism_shapes import (
    VisionAnswer,
    VisionCaption,
    VisionCaptionAnswer,
    VisionLabel,
    VisionLabelsAnswer,
    VisionRequest,
)
from captiond.web.dialects.refusals import EmptyResult
from captiond.web.uploading.forms import FormSpec
from captiond.web.uploading.jsonscanner import EACH

IMAGES = FormSpec("images", single=False, places=(("images", EACH),))
SOURCE = "image"  # what PhotoPrism calls the source of labels that a model has seen
HIGHEST_PRIORITY = 5
VERSION_SHOWN = 12  # characters of the model's fingerprint


async def photoprism_caption(request: Request) -> Response:
    """Caption the first image. The others show parts of the same picture."""
    async with dialect_call(request, IMAGES, VisionRequest) as call:
        found = (await vision_captions(call, most=1)).findings
    if not found.caption:
        raise EmptyResult("the caption of the image is empty")
    caption: VisionCaption = {"text": found.caption, "source": SOURCE}
    if found.confidence is not None:
        caption["confidence"] = found.confidence
    body: VisionCaptionAnswer = {**vision_answer(call), "result": {"caption": caption}}
    return JSONResponse(body)


async def photoprism_labels(request: Request) -> Response:
    """Return the nouns of the captions of all images."""
    async with dialect_call(request, IMAGES, VisionRequest) as call:
        found = (await vision_captions(call)).findings
    if not found.labels:
        raise EmptyResult(f"the caption has no labels: {found.caption}")
    labels = list(map(vision_label, found.labels))
    body: VisionLabelsAnswer = {**vision_answer(call), "result": {"labels": labels}}
    return JSONResponse(body)


async def vision_captions(call: DialectCall[VisionRequest], most: int | None = None) -> Captions:
    """Caption at most so many images of a request.

    Raises:
        UrlRefused: it has the URL of an image instead.
    """
    images = call.body.images or []
    if call.body.url and not images:
        raise UrlRefused("url: URLs are never fetched; send the bytes of the image in images")
    return await call.captions(images[:most], prompt=call.body.prompt)


def vision_answer(call: DialectCall[VisionRequest]) -> VisionAnswer:
    """Return what both answers have."""
    model = model_of(call.services)
    return {
        "id": call.body.id,
        "code": 200,
        "model": {
            "name": shown_name(model.name),
            "version": model.fingerprint[:VERSION_SHOWN],
        },
    }


def vision_label(label: Label) -> VisionLabel:
    """Return a label as PhotoPrism reads it."""
    made: VisionLabel = {
        "name": label.name,
        "source": SOURCE,
        "priority": round(HIGHEST_PRIORITY * label.topicality),
        "topicality": label.topicality,
        "categories": label.categories,
    }
    if label.confidence is not None:
        made["confidence"] = label.confidence
    return made
