"""Uploads: from the body of a request to images in the spool.

The body's chunks go to a `BodyReader`, which calls a `FormReader` for each part. A file's bytes go
on to the spool's writer, which hashes them; other fields are kept. No file is held in memory as a
whole.
"""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import NoReturn

import structlog
from starlette.requests import Request

from captiond.errors import MalformedBody, NoSpace, StorageFailed, UploadTimeout
from captiond.metrics import OBJECT_FAILURES, UPLOAD_BYTES
from captiond.shielding import in_thread, shielded
from captiond.spool.unavailable import StorageUnavailable
from captiond.web.access.admission import admission_of
from captiond.web.problems import missing
from captiond.web.services import Services
from captiond.web.uploading.bodies import BodyReader, body_reader, chunks
from captiond.web.uploading.formreader import FormReader
from captiond.web.uploading.forms import Form, FormSpec
from captiond.web.uploading.hints import coding_of, hint_for, uncompressed
from captiond.web.uploading.named_files import FIELD as PATH_FIELD
from captiond.web.uploading.spool_room import NoRoom, UploadRoom

log = structlog.get_logger()
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@asynccontextmanager
async def received(request: Request, services: Services, spec: FormSpec) -> AsyncIterator[Form]:
    """Receive the form of a request, and run the block with it.

    The spool file is removed after the block unless the form is marked as `kept`.

    Raises:
        MalformedBody, BodyTooLarge, FileTooLarge, TooManyFiles, UploadTimeout, NoSpace, SpoolFull,
        StorageFailed, StorageUnavailable, InvalidRequest: the request cannot be accepted. Nothing
        of it is stored.
    """
    form, room = Form(), None
    try:
        room = await receive(request, services, spec, form)
        if not form.uploads and not spec.places:
            raise missing(
                spec.field,
                without_root=form.fields.get(PATH_FIELD),
                hint=hint_for(None, spec, form, coding_of(request)),
            )
        yield form
    finally:
        if room is not None and not form.kept:
            services.spool_room.release(room)
        if form.file is not None and not form.kept:
            await in_thread(services.spool.remove, [form.file])


async def receive(
    request: Request, services: Services, spec: FormSpec, form: Form
) -> UploadRoom | None:
    """Read the request's body into `form`. Return the space that its file takes, if it is stored.

    Raises what `received` raises.
    """
    limits = services.settings.limits
    parts = FormReader(services, spec, form)
    # guard: upload-deadline
    deadline = asyncio.timeout(limits.upload_seconds)
    try:
        reader, most = body_reader(request, services.settings, spec, form, parts)
        async with deadline:
            with (
                services.upload_memory.uploading(),
                room_for(request, services, spec, most) as room,
            ):
                await store(chunks(request, max_bytes=most), reader, parts, services, room)
                await copy_named_files(request, parts, room)
                await shielded(parts.commit())
            return room if isinstance(room, UploadRoom) else None
    except TimeoutError as error:
        # guard: timeout-of-the-disk
        if not deadline.expired():  # it is ETIMEDOUT of a disk that is in the network
            raise_for_disk(error)
        raise UploadTimeout(
            f"the body did not arrive within {limits.upload_seconds:g} seconds"
        ) from None
    except MalformedBody as error:
        raise_for_coding(error, coding_of(request))
    except OSError as error:
        raise_for_disk(error)
    except StorageUnavailable as error:
        services.recorder.count(OBJECT_FAILURES, "write")
        raise_for_objects(error)
    finally:
        await in_thread(parts.close)


def room_for(
    request: Request, services: Services, spec: FormSpec, most: int
) -> AbstractContextManager[UploadRoom | NoRoom]:
    """Return the space of an upload of at most `most` bytes in the spool, while it arrives."""
    if not spec.stored:
        return nullcontext(NoRoom())
    return services.spool_room.upload(request, durable=spec.durable, max_bytes=most)


async def store(
    body: AsyncIterator[bytes],
    reader: BodyReader,
    parts: FormReader,
    services: Services,
    room: UploadRoom | NoRoom,
) -> None:
    """Read a body, and write its files to the spool: a small body at once, a large one in pieces.

    Only the writing is done in threads. Parsing and hashing stay in the event loop: to pass the
    interpreter's lock to another thread and back for each image takes longer than they do.
    """
    async for chunk in body:
        services.recorder.count(UPLOAD_BYTES, amount=len(chunk))
        room.add(len(chunk))
        reader.feed(chunk)
        if parts.unwritten >= services.upload_memory.share:
            await in_thread(parts.flush)
    reader.close()


async def copy_named_files(request: Request, parts: FormReader, room: UploadRoom | NoRoom) -> None:
    """Copy the files that the request names by their paths. They count as if they were sent."""
    for position in parts.named:
        upload = await in_thread(parts.copy, position)
        # guard: named-files-count
        if upload.image is not None:
            room.add(upload.image.size)
            admission_of(request).hold_body(upload.image.size)
        parts.add(position, upload)


def raise_for_coding(error: MalformedBody, coding: str | None) -> NoReturn:
    """Raise an error for a body that may be compressed with `coding`."""
    if coding is None:
        raise error
    raise MalformedBody(f"{error}; {uncompressed(coding)}") from error


def raise_for_disk(error: OSError) -> NoReturn:
    """Raise NoSpace or StorageFailed, whichever describes the error."""
    # guard: full-disk-is-507
    if error.errno in FULL:
        raise NoSpace("no space left for the upload; nothing was accepted") from error
    raise StorageFailed(f"the upload cannot be written: {error.strerror}") from error


def raise_for_objects(error: StorageUnavailable) -> NoReturn:
    """Log what the operator has to know, and raise what the client may know."""
    log.error("upload_not_stored", reason=str(error))
    raise StorageUnavailable(
        "the object storage does not take the upload now; nothing was accepted"
    ) from error
