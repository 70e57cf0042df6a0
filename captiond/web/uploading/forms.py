"""The form of a request: what an operation takes, and how the parts of a body become a form."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from captiond.config import ImageSettings, LimitSettings, Settings
from captiond.errors import (
    BodyTooLarge,
    EmptyImage,
    FileTooLarge,
    ImageError,
    MalformedBody,
    TooManyFiles,
)
from captiond.imagetypes import check_type
from captiond.jobs import Refused, SpooledImage
from captiond.metrics import FILES_REFUSED
from captiond.recording import Recorder
from captiond.spool import SpoolWriter
from captiond.web.services import Services
from captiond.web.uploading.jsonscanner import EACH, Place
from captiond.web.uploading.multipart import MAX_FILENAME
from captiond.web.uploading.named_files import FIELD as PATH_FIELD
from captiond.web.uploading.named_files import copy_named
from captiond.web.uploading.unstored import UnstoredFile

IMAGE, FILENAME = "image", "filename"  # keys of an object that describes an image
MAX_FIELDS, MAX_FIELD_BYTES = 100, 16 * 1024
LONG_FIELDS = {"vocabulary": 48 * 1024}  # 1,000 tags, each of one word or a few
FORM_BYTES = 64 * 1024  # how much a form may have beside its single file
DOCUMENT_BYTES = 1024 * 1024  # how much a document of another API may have beside its images
DOCUMENT_VALUES, FORM_VALUES = 10_000, 2000  # how many values a JSON body may have
IMAGE_VALUES = 8  # how many more it may have for each image
NAME_BYTES = 512  # how much a JSON body may have for each further image, beside the image itself


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a request: either an image in the spool, or refused before it was stored.

    Until the body has been read, a file that the request names by its path is neither.
    """

    filename: str
    image: SpooledImage | None
    refused: Refused | None = None


@dataclass(slots=True)
class Form:
    """The content of a request. `file` names the spool file that holds all its images.

    The spool file is removed together with the form, unless `kept` says that a task owns it.

    `document` is the object of a JSON body, with an `ImageReference` in place of each image. It is
    None for a multipart body. The values of `fields` have their JSON types then, otherwise they are
    texts.
    """

    uploads: list[Upload] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] | None = None
    ignored: list[str] = field(default_factory=list)
    file: str | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class FormSpec:
    """The form that an operation takes: one file or several in `field`, beside the options.

    It comes as multipart/form-data or as JSON. If it is `durable`, the files survive a power cut
    once the form has been received. If it is not `stored`, they are only hashed.

    With `places`, it is a document of another API instead: JSON of any shape, whatever its
    Content-Type, with images at these places.
    """

    field: str
    single: bool
    durable: bool = False
    stored: bool = True
    places: tuple[Place, ...] = ()

    @property
    def json_places(self) -> tuple[Place, ...]:
        """Where a JSON body has its images."""
        if self.places:
            return self.places
        if self.single:
            return ((self.field,),)
        return ((self.field, EACH), (self.field, EACH, IMAGE))

    @property
    def json_keys(self) -> tuple[str, ...]:
        """The keys of a JSON body that describe its images."""
        return (self.field, FILENAME, PATH_FIELD) if self.single else (self.field,)

    def max_files(self, limits: LimitSettings) -> int:
        """Return how many files a form may have."""
        return 1 if self.single else limits.files

    def max_bytes(self, limits: LimitSettings) -> int:
        """Return how many bytes a multipart body may have."""
        return limits.file_bytes + FORM_BYTES if self.single else limits.body_bytes

    def max_document(self, limits: LimitSettings) -> int:
        """Return how many bytes a JSON body may have beside its images."""
        if self.places:
            return DOCUMENT_BYTES
        return FORM_BYTES + NAME_BYTES * (self.max_files(limits) - 1)

    def max_values(self, limits: LimitSettings) -> int:
        """Return how many values a JSON body may have: objects, arrays, and their members."""
        first = DOCUMENT_VALUES if self.places else FORM_VALUES
        return first + IMAGE_VALUES * self.max_files(limits)

    def max_json_bytes(self, limits: LimitSettings) -> int:
        """Return how many bytes a JSON body may have.

        Base64 takes four bytes for three. With escaped line breaks and slashes it takes more.
        """
        images = limits.file_bytes if self.single else limits.body_bytes
        return images + images // 2 + self.max_document(limits)


class Part(Protocol):
    """One part of a body: a file or a field."""

    def write(self, data: memoryview) -> None:
        """Take some bytes of the part."""

    def end(self, form: Form) -> None:
        """Add the part to the form."""


class FormReader:
    """Turns the parts of one body into a form. `flush` and `close` block."""

    def __init__(self, services: Services, spec: FormSpec, form: Form) -> None:
        self._services = services
        self._spec = spec
        self._form = form
        self._fields = self._copied = 0
        self._part: Part = IgnoredFile("")
        self._writer: SpoolWriter = (
            services.spool.writer(services.owner, durable=spec.durable)
            if spec.stored
            else UnstoredFile()
        )

    @property
    def unwritten(self) -> int:
        """How many bytes are in memory."""
        return self._writer.unwritten

    def begin(self, name: str, filename: str | None) -> None:
        """Begin a part. It is a file if it has a file name, and a field if it has none."""
        self._part = self._new_part(name, filename)

    def data(self, data: memoryview) -> None:
        """Take some bytes of the part."""
        self._part.write(data)

    def refuse(self, error: ImageError) -> None:
        """Refuse the part, which is a file."""
        assert isinstance(self._part, FilePart)
        self._part.refuse(error)

    def end(self) -> None:
        """Add the part to the form."""
        self._part.end(self._form)

    @property
    def named(self) -> list[int]:
        """The positions of the uploads that are to be copied: the request names their paths."""
        uploads = enumerate(self._form.uploads)
        return [at for at, each in uploads if each.image is None and each.refused is None]

    def copy(self, position: int) -> Upload:
        """Copy a file that the request names by its path, and return the upload. Blocking.

        Raises:
            FileTooLarge, BodyTooLarge: the whole request is refused.
            StorageFailed, OSError
        """
        settings, path = self._services.settings, self._form.uploads[position].filename
        assert settings.images.root is not None
        self._writer.begin()
        try:
            copy_named(
                settings.images.root,
                path,
                self._writer,
                check=partial(check_head, images=settings.images),
                limit=settings.limits.file_bytes,
                share=self._services.upload_memory.share,
            )
        except ImageError as error:
            if self._spec.single and isinstance(error, FileTooLarge):
                raise
            self._writer.drop()
            return Upload(shown(path), None, Refused.of(error))
        image = self._writer.end()
        self._copied += image.size
        check_length(self._copied, self._spec.max_bytes(settings.limits))
        return Upload(shown(path), image)

    def add(self, position: int, upload: Upload) -> None:
        """Put a copied file into the form."""
        if upload.refused is not None:
            self._services.recorder.count(FILES_REFUSED, upload.refused.code)
        self._form.uploads[position] = upload

    def flush(self) -> None:
        """Write to the disk what is in memory."""
        self._writer.flush()

    async def commit(self) -> None:
        """Finish the spool file. If the form is `durable`, it survives a power cut from now on."""
        if not self._writer.empty:
            await self._writer.commit()
            self._form.file = self._writer.name

    def close(self) -> None:
        """Remove the spool file of a body that was not read completely or has no image."""
        if self._form.file is None:
            # guard: discard-broken-upload
            self._writer.discard()

    def _new_part(self, name: str, filename: str | None) -> Part:
        if filename is not None and name == self._spec.field:
            return self._new_file(filename)
        if filename is None and name == PATH_FIELD and self._services.settings.images.root:
            return PathPart(self._check_files)
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise MalformedBody(f"more than {MAX_FIELDS} fields beside the files")
        return FieldPart(name) if filename is None else IgnoredFile(name)

    def _new_file(self, filename: str) -> "FilePart":
        self._check_files()
        settings, recorder = self._services.settings, self._services.recorder
        return FilePart(self._writer, settings, recorder, filename, single=self._spec.single)

    def _check_files(self) -> None:
        """Return if the form may have one more file. Raises TooManyFiles."""
        spec, most = self._spec, self._spec.max_files(self._services.settings.limits)
        if len(self._form.uploads) == most:
            raise TooManyFiles(f"too many files in {spec.field!r}: at most {most} in a request")


class FieldPart:
    """A form field that is not a file. `options.py` says which unknown names are errors."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value = b""

    @property
    def value(self) -> str:
        """The text of the field so far."""
        return self._value.decode("utf-8", errors="replace")

    def write(self, data: memoryview) -> None:
        self._value += data
        most = LONG_FIELDS.get(self._name, MAX_FIELD_BYTES)
        if len(self._value) > most:
            raise MalformedBody(f"the field {self._name!r} is over {most} bytes")

    def end(self, form: Form) -> None:
        form.fields[self._name] = self.value


class PathPart(FieldPart):
    """The field `path`, which names a file under `[images] root`. An empty one counts as absent."""

    def __init__(self, check_files: Callable[[], None]) -> None:
        super().__init__(PATH_FIELD)
        self._check_files = check_files

    def end(self, form: Form) -> None:
        if self.value.strip():
            self._check_files()
            form.uploads.append(Upload(self.value, None))


class IgnoredFile:
    """A file in a field in which the operation takes no files."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, data: memoryview) -> None:
        pass

    def end(self, form: Form) -> None:
        form.ignored.append(self._name)


class FilePart:
    """A file that is written to the spool, until there is a reason to refuse it."""

    def __init__(
        self,
        writer: SpoolWriter,
        settings: Settings,
        recorder: Recorder,
        filename: str,
        *,
        single: bool,
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._recorder = recorder
        self._filename = filename
        self._single = single
        self._refused: ImageError | None = None
        writer.begin()

    def write(self, data: memoryview) -> None:
        if self._refused is not None:
            return
        most = self._settings.limits.file_bytes
        if self._writer.size + len(data) > most:
            self.refuse(FileTooLarge(f"the file is over {most} bytes"))
        else:
            self._writer.write(data)

    def end(self, form: Form) -> None:
        if self._refused is None:
            try:
                check_head(self._writer.head, self._settings.images)
            except ImageError as error:
                self.refuse(error)
        if self._refused is None:
            form.uploads.append(Upload(self._filename, self._writer.end()))
        else:
            form.uploads.append(Upload(self._filename, None, Refused.of(self._refused)))

    def refuse(self, error: ImageError) -> None:
        """Refuse this file. If it is the only one and too large, the whole request is refused."""
        self._recorder.count(FILES_REFUSED, error.code)
        if self._single and isinstance(error, FileTooLarge):
            raise error
        self._writer.drop()
        self._refused = error


def check_head(head: bytes, images: ImageSettings) -> None:
    """Return if a file that begins with `head` may be an image.

    Raises:
        EmptyImage: the file is empty.
        NotAnImage: it is not an image of a known type.
        ImageTypeRefused: the settings do not enable its type.
    """
    if not head:
        raise EmptyImage("the file is empty")
    check_type(head, images.types)


def shown(path: str) -> str:
    """Return a path as the results show it: as short as a file name."""
    return path[:MAX_FILENAME]


def check_length(length: int, max_bytes: int) -> None:
    """Raise BodyTooLarge if `length` is over `max_bytes`."""
    if length > max_bytes:
        raise BodyTooLarge(f"the request body is over {max_bytes} bytes")
