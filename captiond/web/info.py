"""What the service is and can do: the model, the limits, the options, and the length of the queue.

It has no secret and no path of the machine. A key is needed all the same if the service has keys:
the length of the queue says what other clients do.
"""

from typing import NotRequired

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from captiond import __version__
from captiond.messages import ModelInfo
from captiond.request_options import RequestOptions
from captiond.settings.config import Settings
from captiond.tags import Category, Kind
from captiond.web.async_tasks.long_poll import MOST_SECONDS
from captiond.web.dialects.names import shown_name
from captiond.web.probes import SERVICE
from captiond.web.services import services_of


class ModelDescription(TypedDict):
    """The model that captions. `fallback`: it is not `requested`, which the settings name."""

    name: str
    requested: str
    fallback: bool
    device: str
    precision: str
    batch_size: int


class ClientLimits(TypedDict):
    """What one client may do: requests in a window, and at the same time."""

    window_seconds: float
    requests: int
    concurrent: int
    images: int
    body_bytes: int


class LimitDescription(TypedDict):
    """What a request may have. Sizes are in bytes, times in seconds.

    A number of 0 is no limit. `clients` are the limits of one client, unless its key has its own.
    """

    file_bytes: int
    body_bytes: int
    files: int
    pixels: int
    upload_seconds: float
    request_seconds: float
    wait_seconds: int
    clients: ClientLimits


class QueueDescription(TypedDict):
    """The images of tasks that are not finished, and how many are finished per second.

    `images_per_second` is there once it was measured.
    """

    images: int
    images_per_second: NotRequired[float]


class TagDescription(TypedDict):
    """The languages, categories and kinds of tags."""

    languages: list[str]
    default_language: str
    categories: list[str]
    kinds: list[str]


class ServiceInfo(TypedDict):
    """The service. `model` is null until one was loaded. `options` are those that it can serve."""

    service: str
    version: str
    status: str
    model: ModelDescription | None
    image_types: list[str]
    options: list[str]
    caption_languages: list[str]
    default_caption_language: str
    tags: TagDescription
    limits: LimitDescription
    queue: QueueDescription


async def info(request: Request) -> Response:
    """Return what this service is and can do."""
    services = services_of(request)
    state, settings = services.supervisor.state, services.settings
    backlog = await services.queue.backlog()
    queue: QueueDescription = {"images": backlog.images}
    if state.bulk_rate > 0:
        queue["images_per_second"] = state.bulk_rate
    model, translation = state.model, settings.translation
    unsupported = model.unsupported if model is not None else ()
    untranslated = model.untranslated if model is not None else ()
    body: ServiceInfo = {
        "service": SERVICE,
        "version": __version__,
        "status": state.reported_health.value,
        "model": described(model) if model is not None else None,
        "image_types": list(settings.images.types),
        "options": [name for name in RequestOptions.model_fields if name not in unsupported],
        "caption_languages": [each for each in translation.languages if each not in untranslated],
        "default_caption_language": translation.language,
        "tags": tags_of(settings),
        "limits": limits_of(settings),
        "queue": queue,
    }
    return JSONResponse(body, headers={"Cache-Control": "private, no-store"})


def described(model: ModelInfo) -> ModelDescription:
    return {
        "name": shown_name(model.name),
        "requested": shown_name(model.requested),
        "fallback": model.is_fallback,
        "device": model.device,
        "precision": model.precision,
        "batch_size": model.batch_size,
    }


def tags_of(settings: Settings) -> TagDescription:
    return {
        "languages": [*settings.tags.pipelines],
        "default_language": settings.tags.language,
        "categories": [*Category],
        "kinds": [*Kind],
    }


def limits_of(settings: Settings) -> LimitDescription:
    limits, clients = settings.limits, settings.clients
    return {
        "file_bytes": limits.file_bytes,
        "body_bytes": limits.body_bytes,
        "files": limits.files,
        "pixels": settings.images.max_pixels,
        "upload_seconds": limits.upload_seconds,
        "request_seconds": limits.request_seconds,
        "wait_seconds": MOST_SECONDS,
        "clients": {
            "window_seconds": clients.window_seconds,
            "requests": clients.requests,
            "concurrent": clients.concurrent,
            "images": clients.images,
            "body_bytes": clients.body_bytes,
        },
    }
