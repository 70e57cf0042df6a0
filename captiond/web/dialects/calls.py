"""The core of the dialects: from a JSON document with images in it to captions.

It is that of captiond's own calls: the images go to the spool while they arrive, and keys, limits,
fair turns and errors are the same.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, WithJsonSchema
from starlette.requests import Request

from captiond.jobs import Captioned, Refused
from captiond.messages import ModelInfo, Timings
from captiond.web.access.admission import admission_of
from captiond.web.captioning import answers_to, check_model_ready
from captiond.web.dialects.findings import Findings
from captiond.web.dialects.names import is_served, shown_name
from captiond.web.dialects.refusals import ModelUnknown, NoImage
from captiond.web.disconnects import unless_disconnected
from captiond.web.options import options_of
from captiond.web.problems import ImageRefused, InvalidRequest
from captiond.web.services import Services, services_of
from captiond.web.uploading.forms import Form, FormSpec
from captiond.web.uploading.jsonbody import ImageReference
from captiond.web.uploading.uploads import received

PREFIX = "prefix"  # the value of [dialects] prompts with which prompts are used


def is_image(value: object) -> ImageReference:
    """Return an image of the body. Raises ValueError for anything else."""
    if not isinstance(value, ImageReference):
        raise ValueError("must be a text: the image in base64, or as a data URL")
    return value


Image = Annotated[
    ImageReference,
    PlainValidator(is_image),
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
class Call(Generic[Body]):
    """A request of a dialect whose body has been read. `started` is when it began.

    With `known_only`, no model is loaded yet, and only known images are answered.
    """

    request: Request
    body: Body
    form: Form
    started: float
    known_only: bool

    async def captions(
        self, images: Sequence[ImageReference], *, prompt: str = "", number: int = 1
    ) -> Captions:
        """Caption images of the body, each with so many alternatives.

        Raises:
            NoImage, InvalidRequest, TooManyRequests, QueueFull, ModelNotReady
            ImageRefused: one of the images was refused.
            ClientDisconnect: the client disconnected. The images are withdrawn.
        """
        services = services_of(self.request)
        if not images:
            raise NoImage("the request has no image; captiond only describes images")
        uploads = [self.form.uploads[image.position] for image in images]
        for upload in uploads:
            if upload.refused is not None:  # its message names its place already
                raise ImageRefused(upload.refused)
        fields = asked_for(services, prompt, number)
        options = options_of(fields, services.settings, typed=True)
        admission_of(self.request).hold_images(len(uploads))
        answers = await unless_disconnected(
            self.request,
            answers_to(self.request, uploads, options, known_only=self.known_only),
        )
        check_model_ready(
            services, [answer.outcome for answer in answers], known_only=self.known_only
        )
        outcomes = []
        for image, answer in zip(images, answers, strict=True):
            if isinstance(answer.outcome, Refused):
                message = f"{image.label}: {answer.outcome.error}"
                raise ImageRefused(replace(answer.outcome, error=message))
            outcomes.append(answer.outcome)
        seconds = time.perf_counter() - self.started
        return Captions(tuple(outcomes), longest([each.timings for each in answers]), seconds)


@asynccontextmanager
async def read_call(
    request: Request, spec: FormSpec, body: type[Body], *, captions: bool = True
) -> AsyncIterator[Call[Body]]:
    """Read the JSON body of a request, and run the block with it.

    Raises:
        Draining, ModelNotReady: no image can be answered now, and the block wants `captions`.
        InvalidRequest: a field has a wrong type. Everything that `received` raises.
    """
    started, services = time.perf_counter(), services_of(request)
    known_only = captions and services.supervisor.check_answerable()
    async with received(request, services, spec) as form:
        parsed = validated(body, form.document)
        yield Call(request, parsed, form, started, known_only)


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


def asked_for(services: Services, prompt: str, number: int) -> dict[str, Any]:
    """Return the options that differ from the settings."""
    fields: dict[str, Any] = {}
    if number > 1:
        fields["num_captions"] = number
    if prompt.strip() and services.settings.dialects.prompts == PREFIX:
        fields["prompt"] = prompt.strip()
    return fields


def longest(timings: Sequence[Timings]) -> Timings:
    """Return the longest time of each stage, since several images are captioned together."""
    return Timings(
        decode=max(each.decode for each in timings),
        queue=max(each.queue for each in timings),
        model=max(each.model for each in timings),
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
    """Return the names of the model that lists show: its own, and those of the settings."""
    further = services.settings.dialects.models
    names = [shown_name(model_of(services).name), *(name for name in further if name != "*")]
    return list(dict.fromkeys(names))


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
