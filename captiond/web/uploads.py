"""From a request's body to files in the spool, hashed on the way; no file is held in memory."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from captiond.config import ImageSettings, LimitSettings, Settings
from captiond.errors import (
    EmptyImage,
    FileTooLarge,
    ImageError,
    MalformedBody,
    NoSpace,
    StorageFailed,
    TooManyFiles,
    UploadTimeout,
)
from captiond.imagetypes import check_type
from captiond.jobs import Refused, SpooledImage
from captiond.spool import SpoolWriter
from captiond.web.heap import Heap
from captiond.web.multipart import Parser, boundary_of, chunks
from captiond.web.problems import missing
from captiond.web.services import Services

MAX_FIELDS, MAX_FIELD_BYTES = 100, 16 * 1024
FORM_BYTES = 64 * 1024  # what a single file's form may have around the file
P = ParamSpec("P")
T = TypeVar("T")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a request: in the spool, or refused before it got there."""

    filename: str
    image: SpooledImage | None
    refused: Refused | None = None


@dataclass(slots=True)
class Form:
    """What a request brought; `file` names the spool file that holds all its images.

    The file is removed with the form, unless it is `kept` because a row of the database owns it.
    """

    uploads: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class FormSpec:
    """What a route takes: files in `field`; `durable` ones are on disk when they are told."""

    field: str
    single: bool
    durable: bool = False

    def max_files(self, limits: LimitSettings) -> int:
        return 1 if self.single else limits.files

    def max_bytes(self, limits: LimitSettings) -> int:
        return limits.file_bytes + FORM_BYTES if self.single else limits.body_bytes


@asynccontextmanager
async def received(request: Request, services: Services, spec: FormSpec) -> AsyncIterator[Form]:
    """The form of a request, its images spooled; the file is removed on leaving unless kept.

    Raises:
        MalformedBody, BodyTooLarge, FileTooLarge, TooManyFiles, UploadTimeout, NoSpace,
        StorageFailed, InvalidRequest: the request cannot be taken; nothing of it is left.
    """
    form = Form()
    try:
        await receive(request, services, spec, form)
        if not form.uploads:
            raise missing(spec.field)
        yield form
    finally:
        if form.file is not None and not form.kept:
            await in_thread(services.spool.remove, [form.file])


async def receive(request: Request, services: Services, spec: FormSpec, form: Form) -> None:
    boundary = boundary_of(request)
    if boundary is None:
        raise missing(spec.field)
    limits = services.settings.limits
    intake = Intake(services, spec, form)
    parser = Parser(boundary, intake)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            body = chunks(request, max_bytes=spec.max_bytes(limits))
            await take_all(body, parser, intake, services.heap)
    except TimeoutError:
        raise UploadTimeout(
            f"the body did not arrive within {limits.upload_seconds:g} seconds"
        ) from None
    except OSError as error:
        raise_for_disk(error)
    finally:
        await in_thread(intake.close)


async def take_all(
    body: AsyncIterator[bytes], parser: Parser, intake: "Intake", heap: Heap
) -> None:
    """Take a body in; it is written in one visit to a thread if it is small, and in several if it
    is large, so that little of it is in memory.

    Parsing and hashing stay in this thread: to hand the interpreter's lock to another and back for
    each image takes longer than they do.
    """
    with heap.uploading():
        async for chunk in body:
            parser.feed(chunk)
            if intake.unwritten >= heap.share:
                await in_thread(intake.flush)
        parser.close()
        await in_thread(intake.commit)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a thread to its end, also when the caller is cancelled meanwhile.

    A write that went on by itself could reach a descriptor that has been closed and given anew.
    """
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


async def to_its_end(work: Awaitable[T]) -> T:
    """What `work` gives; a caller that is cancelled meanwhile goes on once it has ended."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def raise_for_disk(error: OSError) -> None:
    if error.errno in FULL:
        raise NoSpace("no space left for the upload; nothing was accepted") from error
    raise StorageFailed(f"the upload cannot be written: {error.strerror}") from error


class Intake:
    """Takes the parts of one body into a form. `flush`, `commit` and `close` block."""

    def __init__(self, services: Services, spec: FormSpec, form: Form) -> None:
        self._services = services
        self._spec = spec
        self._form = form
        self._fields = 0
        self._part: FilePart | FieldPart | UnreadFile = UnreadFile()
        self._writer = services.spool.writer(services.owner)

    @property
    def unwritten(self) -> int:
        """The bytes that are in memory."""
        return self._writer.unwritten

    def start(self, name: str, filename: str | None) -> None:
        self._part = self._new_part(name, filename)

    def data(self, data: memoryview) -> None:
        self._part.write(data)

    def end(self) -> None:
        self._part.end(self._form)

    def flush(self) -> None:
        self._writer.flush()

    def commit(self) -> None:
        """Let the images be in the spool, durable where that is asked."""
        if not self._writer.empty:
            self._writer.commit(durable=self._spec.durable)
            self._form.file = self._writer.name

    def close(self) -> None:
        """Leave nothing of a body that did not come to its end, or that held no image."""
        if self._form.file is None:
            self._writer.discard()

    def _new_part(self, name: str, filename: str | None) -> "FilePart | FieldPart | UnreadFile":
        settings = self._services.settings
        if filename is not None and name == self._spec.field:
            most = self._spec.max_files(settings.limits)
            if len(self._form.uploads) == most:
                raise TooManyFiles(f"too many files in {name!r}: at most {most} in a request")
            return FilePart(self._writer, settings, filename, single=self._spec.single)
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise MalformedBody(f"more than {MAX_FIELDS} fields beside the files")
        return FieldPart(name) if filename is None else UnreadFile()


class FieldPart:
    """A form field; one of a name that nobody reads is left to its reader's absence."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value = b""

    def write(self, data: memoryview) -> None:
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise MalformedBody(f"the field {self._name!r} is over {MAX_FIELD_BYTES} bytes")

    def end(self, form: Form) -> None:
        form.fields[self._name] = self._value.decode("utf-8", errors="replace")


class UnreadFile:
    """A file in a field that the route does not take: a missing one is the complaint, if any."""

    def write(self, data: memoryview) -> None:
        pass

    def end(self, form: Form) -> None:
        pass


class FilePart:
    """A file on its way into the spool; refused as soon as there is a reason."""

    def __init__(
        self, writer: SpoolWriter, settings: Settings, filename: str, *, single: bool
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._filename = filename
        self._single = single
        self._refused: ImageError | None = None
        writer.begin()

    def write(self, data: memoryview) -> None:
        if self._refused is not None:
            return
        most = self._settings.limits.file_bytes
        if self._writer.size + len(data) > most:
            self._refuse(FileTooLarge(f"the file is over {most} bytes"))
        else:
            self._writer.write(data)

    def end(self, form: Form) -> None:
        if self._refused is None:
            try:
                check_head(self._writer.head, self._settings.images)
            except ImageError as error:
                self._refuse(error)
        if self._refused is None:
            form.uploads.append(Upload(self._filename, self._writer.end()))
        else:
            form.uploads.append(Upload(self._filename, None, Refused.of(self._refused)))

    def _refuse(self, error: ImageError) -> None:
        """The one file of a request being too large ends the request; else the others go on."""
        if self._single and isinstance(error, FileTooLarge):
            raise error
        self._writer.drop()
        self._refused = error


def check_head(head: bytes, images: ImageSettings) -> None:
    """Refuse what its first bytes give away, before it costs anybody anything.

    Raises:
        EmptyImage, NotAnImage, ImageTypeRefused
    """
    if not head:
        raise EmptyImage("the file is empty")
    check_type(head, images.types)
