"""The core of all calls that caption images while the client waits: captiond's own, and dialects.

A call reads the body of its request, whose images are in the spool then, and has them captioned:

    CHAT = FormSpec("images", single=False, places=(("messages", EACH, "images", EACH),))

    async def chat(request: Request) -> Response:
        async with interactive_call(request, CHAT) as call:
            document = call.document  # {"model": "…", "messages": [{"images": [ImageReference]}]}
            answers = await call.answers(Options())
        ...

`FormSpec.places` says where the JSON of a dialect has strings with images: keys, and EACH for any
position in an array. All other values are as the client has sent them. In place of each such string
there is an `ImageReference`, whose `position` is that of its upload and of its answer.
A dialect checks the shape of the document itself, and whether there is an image.

An image that cannot be captioned has an answer whose `outcome` is `Refused`; it spoils no other. A
whole request is refused by a CaptiondError, whose `code`, `status`, message and `retry_after` a
dialect can show in its own way. Keys, limits of clients, fair turns and the limits of the queue are
those of `/batch-caption`, as long as the operation stands in the table with `scope=Scope.CAPTION`.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from captiond.errors import ModelNotReady, QueueFull
from captiond.jobs import Options, Outcome, Refused
from captiond.messages import Answer
from captiond.web.access.admission import admission_of
from captiond.web.access.identity import client_of
from captiond.web.disconnects import unless_disconnected
from captiond.web.options import form_options
from captiond.web.origin import origin_of, trace_upload
from captiond.web.services import Services, services_of
from captiond.web.uploading.forms import Form, FormSpec, Upload
from captiond.web.uploading.uploads import received

NO_TICKET = -1  # stands in the answer for an image that was refused before it was sent on


@dataclass(frozen=True, slots=True)
class InteractiveCall:
    """A request whose body has been read.

    `started` and `received_at` are the times of `time.perf_counter` when the request began and when
    its body was there. With `known_only`, the model is not loaded yet, and only images that the
    cache knows can be captioned.
    """

    request: Request
    services: Services
    spec: FormSpec
    form: Form
    started: float
    received_at: float
    known_only: bool

    @property
    def uploads(self) -> list[Upload]:
        """The images, in their order in the body. Some may be refused already."""
        return self.form.uploads

    @property
    def document(self) -> dict[str, Any]:
        """The object of a JSON body, with an `ImageReference` in place of each image."""
        assert self.form.document is not None
        return self.form.document

    def options(self) -> Options:
        """Return the options that the fields of one of captiond's own calls ask for.

        Raises:
            InvalidRequest: a value is out of range, or the name of a field is misspelt.
        """
        return form_options(self.form, self.spec, self.services.settings)

    async def answers(
        self, options: Options, uploads: Sequence[Upload] | None = None
    ) -> list[Answer]:
        """Caption the uploads, all of them by default. Return one answer for each, in order.

        Raises:
            TooManyRequests: too many images of this client are waiting.
            QueueFull, ModelNotReady, Draining: the request was not accepted.
            ClientDisconnect: nobody waits for the answer any more.
        """
        uploads = self.uploads if uploads is None else uploads
        accepted = [upload.image for upload in uploads if upload.image is not None]
        admission_of(self.request).hold_images(len(accepted))
        work = self.services.supervisor.caption(
            accepted,
            replace(options, origin=origin_of(self.request)),
            client_of(self.request),
            seconds=self.services.settings.limits.request_seconds,
            known_only=self.known_only,
        )
        answers = await unless_disconnected(self.request, work)
        self._check([answer.outcome for answer in answers])
        others = iter(answers)
        return [
            next(others) if upload.refused is None else Answer(NO_TICKET, upload.refused)
            for upload in uploads
        ]

    def _check(self, outcomes: list[Outcome]) -> None:
        """Return if the request was accepted. Raises QueueFull, ModelNotReady."""
        for outcome in outcomes:
            if not isinstance(outcome, Refused):
                continue
            if outcome.code == QueueFull.code:  # the queue takes all images of a request or none
                raise QueueFull(outcome.error)
            if self.known_only and outcome.code == ModelNotReady.code:
                raise ModelNotReady(self.services.supervisor.state.reasons or (outcome.error,))


@asynccontextmanager
async def interactive_call(request: Request, spec: FormSpec) -> AsyncIterator[InteractiveCall]:
    """Read the body of a request, and run the block with it. The spool file is removed after it.

    Raises:
        Draining, ModelNotReady: no image can be captioned now. The body is not read.
        CaptiondError: what `uploads.received` raises.
    """
    started, services = time.perf_counter(), services_of(request)
    known_only = services.supervisor.check_answerable()
    async with received(request, services, spec) as form:
        received_at = time.perf_counter()
        trace_upload(request, started)
        yield InteractiveCall(request, services, spec, form, started, received_at, known_only)
