"""The parts of a form: what becomes of each while its bytes arrive."""

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Protocol

from captiond.errors import EmptyImage, FileTooLarge, ImageError, MalformedBody
from captiond.imagetypes import check_type
from captiond.jobs import Refused
from captiond.metrics import FILES_REFUSED
from captiond.notation.sizes import shown_size
from captiond.recording import Recorder
from captiond.request_options import RequestOptions
from captiond.settings.config import ImageSettings, Settings
from captiond.spool import SpoolWriter
from captiond.web.uploading.forms import CALLBACK_URL, Form, Upload
from captiond.web.uploading.multipart import MAX_FILENAME
from captiond.web.uploading.named_files import FIELD as PATH_FIELD
from captiond.web.uploading.partnames import text

MAX_FIELD_BYTES = 16 * 1024
LONG_FIELDS = {"vocabulary": 48 * 1024}  # 1,000 tags, each of one word or a few
TAKEN = frozenset({*RequestOptions.model_fields, CALLBACK_URL})
KEPT_BYTES = 256  # of a field that no call takes


class Part(Protocol):
    """One part of a body: a file or a field."""

    def write(self, data: memoryview) -> None:
        """Take some bytes of the part."""

    def end(self, form: Form) -> None:
        """Add the part to the form."""


class FieldPart:
    """A field that the calls take, such as an option."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value = b""

    @property
    def value(self) -> str:
        """The text of the field so far. It may be a file with a byte order mark."""
        return text(self._value.removeprefix(BOM_UTF8))

    def write(self, data: memoryview) -> None:
        self._value += data
        most = LONG_FIELDS.get(self._name, MAX_FIELD_BYTES)
        if len(self._value) > most:
            raise MalformedBody(f"the field {self._name!r} is over {shown_size(most)}")

    def end(self, form: Form) -> None:
        form.fields[self._name] = self.value


class OtherField(FieldPart):
    """A field that no call takes, or a file without a file name.

    The service that captiond replaces ignored such fields, whatever their length. The beginning is
    kept, since the field may be a misspelt option.
    """

    def write(self, data: memoryview) -> None:
        self._value += data[: KEPT_BYTES - len(self._value)]

    def end(self, form: Form) -> None:
        form.fields[self._name[:MAX_FILENAME]] = self.value


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
        form.ignored.append(self._name[:MAX_FILENAME])


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
        most = self._settings.limits.file_bytes
        if self._refused is None and self._writer.size + len(data) > most:
            self._drop(FileTooLarge(f"the file is over {shown_size(most)}"))
        if self._refused is None:
            self._writer.write(data)
        else:
            self._writer.skip(data)

    def end(self, form: Form) -> None:
        if self._refused is None:
            try:
                check_head(self._writer.head, self._settings.images)
            except ImageError as error:
                self._drop(error)
        image = self._writer.end()
        if self._refused is None:
            form.uploads.append(Upload(self._filename, image))
        else:
            refused = Refused.of(self._refused)
            form.uploads.append(Upload(self._filename, None, refused, image.sha256))

    def refuse(self, error: ImageError, content: bytes) -> None:
        """Refuse this file. Its hash is that of `content`, which tells it from other ones."""
        self._drop(error)
        self._writer.begin()
        self._writer.skip(memoryview(content))

    def _drop(self, error: ImageError) -> None:
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
