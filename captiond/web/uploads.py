"""From a request's body to files in the spool, hashed on the way; no file is held in memory."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from captiond.config import ImageSettings, LimitSettings
from captiond.errors import (
    CaptiondError,
    EmptyImage,
    FileTooLarge,
    MalformedBody,
    NoSpace,
    TooManyFiles,
    UploadTimeout,
)
from captiond.imagetypes import check_type
from captiond.jobs import Refused
from captiond.spool import SpooledFile, SpoolWriter, remove, sync_folder
from captiond.web.multipart import Event, PartData, PartEnd, PartStart, boundary_of, events
from captiond.web.problems import missing
from captiond.web.services import Services

MAX_FIELDS, MAX_FIELD_BYTES = 100, 16 * 1024
FORM_BYTES = 64 * 1024  # what a single file's form may have around the file
BUFFER_BYTES = 64 * 1024  # written to disk, in a thread, whenever so much is there
P = ParamSpec("P")
T = TypeVar("T")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a request: in the spool, or refused before it got there."""

    filename: str
    file: SpooledFile | None
    refused: Refused | None = None


@dataclass(slots=True)
class Form:
    """What a request brought. The files are removed with it, unless they are kept."""

    uploads: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    kept: bool = False

    def keep(self) -> None:
        """Leave the files in the spool: from now on a row of the database owns each."""
        self.kept = True

    def paths(self) -> list[Path]:
        return [upload.file.path for upload in self.uploads if upload.file is not None]


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
    """The form of a request, its files spooled; they are removed on leaving unless kept.

    Raises:
        MalformedBody, BodyTooLarge, FileTooLarge, TooManyFiles, UploadTimeout, NoSpace,
        InvalidRequest: the request cannot be taken; nothing of it is left.
    """
    form = Form()
    try:
        await receive(request, services, spec, form)
        if not form.uploads:
            raise missing(spec.field)
        yield form
    finally:
        services.heap.used()
        if not form.kept:
            remove(form.paths())


async def receive(request: Request, services: Services, spec: FormSpec, form: Form) -> None:
    boundary = boundary_of(request)
    if boundary is None:
        raise missing(spec.field)
    limits = services.settings.limits
    intake = Intake(services, spec, form)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            body = events(request, boundary, max_bytes=spec.max_bytes(limits))
            async for event in body:
                await intake.take(event)
            if spec.durable:
                await in_thread(sync_folder, services.spool)
    except TimeoutError:
        raise UploadTimeout(
            f"the body did not arrive within {limits.upload_seconds:g} seconds"
        ) from None
    except OSError as error:
        raise_for_disk(error)
    finally:
        await intake.close()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a thread to its end, also when the caller is cancelled meanwhile.

    A write that went on by itself could reach a descriptor that has been closed and given anew.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def raise_for_disk(error: OSError) -> None:
    if error.errno in FULL:
        raise NoSpace("no space left for the upload; nothing was accepted") from error
    raise error


class Intake:
    """Takes the parts of one body, one after the other, into a form."""

    def __init__(self, services: Services, spec: FormSpec, form: Form) -> None:
        self._services = services
        self._spec = spec
        self._form = form
        self._part: FilePart | FieldPart | None = None
        self._fields = 0

    async def take(self, event: Event) -> None:
        match event:
            case PartStart(name, filename):
                self._part = self._start(name, filename)
            case PartData(data) if self._part is not None:
                await self._part.write(data)
            case PartEnd() if self._part is not None:
                await self._part.end(self._form)
                self._part = None

    async def close(self) -> None:
        """Drop a part that did not come to its end."""
        if isinstance(self._part, FilePart):
            await self._part.discard()

    def _start(self, name: str, filename: str | None) -> "FilePart | FieldPart":
        if filename is not None and name == self._spec.field:
            most = self._spec.max_files(self._services.settings.limits)
            if len(self._form.uploads) == most:
                raise TooManyFiles(f"too many files in {name!r}: at most {most} in a request")
            return FilePart(self._services, self._spec, filename)
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise MalformedBody(f"more than {MAX_FIELDS} fields beside the files")
        return FieldPart(name)


class FieldPart:
    """A form field; one of a name that nobody reads is left to its reader's absence."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value = b""

    async def write(self, data: bytes) -> None:
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise MalformedBody(f"the field {self._name!r} is over {MAX_FIELD_BYTES} bytes")

    async def end(self, form: Form) -> None:
        form.fields[self._name] = self._value.decode("utf-8", errors="replace")


class FilePart:
    """A file on its way into the spool."""

    def __init__(self, services: Services, spec: FormSpec, filename: str) -> None:
        self._services = services
        self._spec = spec
        self._filename = filename
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._size = 0
        self._writer: SpoolWriter | None = None
        self._refused: Refused | None = None

    async def write(self, data: bytes) -> None:
        if self._refused is not None:
            return
        self._size += len(data)
        if self._size > self._services.settings.limits.file_bytes:
            await self._refuse_size()
            return
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER_BYTES:
            await in_thread(self._flush)

    async def end(self, form: Form) -> None:
        file = None
        if self._refused is None:
            file, self._refused = await in_thread(self._finish)
        form.uploads.append(Upload(self._filename, file, self._refused))

    async def discard(self) -> None:
        if self._writer is not None:
            await in_thread(self._writer.discard)

    async def _refuse_size(self) -> None:
        limit = self._services.settings.limits.file_bytes
        error = FileTooLarge(f"the file is over {limit} bytes")
        if self._spec.single:
            raise error
        await self.discard()
        self._buffer.clear()
        self._refused = Refused.of(error)

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = SpoolWriter(self._services.spool, self._services.owner)
        self._writer.write(b"".join(self._buffer))
        self._buffer.clear()
        self._buffered = 0

    def _finish(self) -> tuple[SpooledFile | None, Refused | None]:
        """All of a small file's way in one visit to a thread."""
        self._flush()
        assert self._writer is not None
        try:
            check_head(self._writer, self._services.settings.images)
        except CaptiondError as error:
            self._writer.discard()
            return None, Refused.of(error)
        return self._writer.commit(durable=self._spec.durable), None


def check_head(writer: SpoolWriter, images: ImageSettings) -> None:
    """Refuse what its first bytes give away, before it costs anybody anything.

    Raises:
        EmptyImage, NotAnImage, ImageTypeRefused
    """
    if not writer.head:
        raise EmptyImage("the file is empty")
    check_type(writer.head, images.types)
