"""The core of the dialects: from a JSON document with images in it to captions.

Reading, captioning, keys and limits are those of captiond's own calls (`web/interactive.py`).
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, WithJsonSchema
from starlette.requests import Request

from captiond.jobs import Captioned, Options, Refused
from captiond.messages import Answer, ModelInfo, Timings
from captiond.web.dialects.findings import Findings
from captiond.web.dialects.names import ANY, OUR_NAME, is_served, shown_name
from captiond.web.dialects.refusals import ModelUnknown, NoImage
from captiond.web.interactive import InteractiveCall, interactive_call
from captiond.web.options import options_of
from captiond.web.problems import ImageRefused, InvalidRequest
from captiond.web.services import Services
from captiond.web.uploading.forms import FormSpec
from captiond.web.uploading.jsonbody import ImageReference

PREFIX = "prefix"  # the value of [dialects] prompts with which prompts are used


def image_of(value: object) -> ImageReference:
    """Return an image of the body. Raises ValueError for anything else."""
    if not isinstance(value, ImageReference):
        raise ValueError("must be a text: the image in base64, or as a data URL")
    return value


Image = Annotated[
    ImageReference,
    PlainValidator(image_of),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class DialectBody(BaseModel):
    """The body of a request. Fields that captiond does not use are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Body = TypeVar("Body", bound=DialectBody)


@dataclass(frozen=True, slots=True)
class Captions:
    """The captions of the images of a call, and how long they took. `seconds` is all of it."""

    outcomes: tuple[Captioned, ...]
    timings: Timings
    seconds: float

    @property
    def findings(self) -> Findings:
        """What is known about all images together."""
        return Findings.together([Findings.of(outcome) for outcome in self.outcomes])


@dataclass(frozen=True, slots=True)
class DialectCall(Generic[Body]):
    """A request of a dialect whose body has been read."""

    call: InteractiveCall
    body: Body

    @property
    def services(self) -> Services:
        return self.call.services

    async def captions(
        self, images: Sequence[ImageReference], *, prompt: str = "", number: int = 1
    ) -> Captions:
        """Caption images of the body, each with so many alternatives.

        Raises:
            NoImage: there is none.
            InvalidRequest: the prompt is too long.
            ImageRefused: one of the images was refused.
            CaptiondError: what `InteractiveCall.answers` raises.
        """
        if not images:
            raise NoImage("the request has no image; captiond only describes images")
        uploads = [self.call.uploads[image.position] for image in images]
        for image, upload in zip(images, uploads, strict=True):
            if upload.refused is not None:
                raise refusal(image, upload.refused)
        answers = await self.call.answers(self._options(prompt, number), uploads)
        outcomes = list(map(captioned, images, answers))
        seconds = time.perf_counter() - self.call.started
        return Captions(tuple(outcomes), longest([each.timings for each in answers]), seconds)

    def _options(self, prompt: str, number: int) -> Options:
        """Return what differs from the settings."""
        settings, fields = self.services.settings, dict[str, Any]()
        if number > 1:
            fields["num_captions"] = number
        if prompt.strip() and settings.dialects.prompts == PREFIX:
            fields["prompt"] = prompt.strip()
        return options_of(fields, settings, typed=True)


@asynccontextmanager
async def dialect_call(
    request: Request, spec: FormSpec, body: type[Body]
) -> AsyncIterator[DialectCall[Body]]:
    """Read the body of a request, and run the block with it.

    Raises:
        InvalidRequest: a field has a wrong type.
        CaptiondError: what `interactive_call` raises.
    """
    async with interactive_call(request, spec) as call:
        yield DialectCall(call, validated(body, call.document))


def validated(body: type[Body], document: Any) -> Body:
    """Return the body that a document stands for. Raises InvalidRequest."""
    try:
        return body.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(
            [
                {"type": each["type"], "loc": ["body", *each["loc"]], "msg": each["msg"]}
                for each in error.errors(include_url=False, include_context=False)
            ]
        ) from None


def captioned(image: ImageReference, answer: Answer) -> Captioned:
    """Return the outcome of an image. Raises ImageRefused."""
    if isinstance(answer.outcome, Refused):
        raise refusal(image, answer.outcome)
    return answer.outcome


def refusal(image: ImageReference, refused: Refused) -> ImageRefused:
    """Return the error for an image, with its place in the message."""
    place = f"{image.label}: "
    message = place + refused.error.removeprefix(place)
    return ImageRefused(replace(refused, error=message))


def longest(timings: Sequence[Timings]) -> Timings:
    """Return the longest time of each stage, since several images are captioned together."""
    return Timings(
        decode=max(each.decode for each in timings),
        queue=max(each.queue for each in timings),
        model=max(each.model for each in timings),
        translation=max(each.translation for each in timings),
        tags=max(each.tags for each in timings),
    )


# ---------------------------------------------------------------- the model


def model_of(services: Services) -> ModelInfo:
    """Return the model that captions, or what the settings say while none is loaded."""
    wanted = services.settings.model
    return services.supervisor.state.model or ModelInfo(
        wanted.name, wanted.name, "", wanted.device, wanted.precision, wanted.batch_size
    )


def model_names(services: Services) -> list[str]:
    """Return the names of the model that lists show: its own, `captiond`, those of the settings.

    Some clients refuse to ask for a name that is not in the list.
    """
    further = services.settings.dialects.models
    names = [shown_name(model_of(services).name), OUR_NAME, *further]
    return [name for name in dict.fromkeys(names) if name != ANY]


def check_model(services: Services, asked: str) -> None:
    """Return if the model has this name.

    Raises:
        ModelUnknown
    """
    if not is_served(asked, model_of(services).name, services.settings.dialects.models):
        names = ", ".join(repr(name) for name in model_names(services))
        raise ModelUnknown(
            f"model {asked[:100]!r} not found; this service has {names}. "
            "[dialects] models gives it further names"
        )
