"""The form of a request: what an operation takes, and what it holds once the body was read."""

from dataclasses import dataclass, field
from typing import Any

from captiond.errors import BodyTooLarge
from captiond.jobs import Refused, SpooledImage
from captiond.notation.sizes import shown_size
from captiond.settings.config import LimitSettings
from captiond.web.uploading.jsonscanner import EACH, Place
from captiond.web.uploading.named_files import FIELD as PATH_FIELD

IMAGE, FILENAME = "image", "filename"  # keys of an object that describes an image
CALLBACK_URL = "callback_url"  # the field with the address of a webhook
FORM_BYTES = 64 * 1024  # how much a form may have beside its single file
DOCUMENT_BYTES = 1024 * 1024  # how much a document of another API may have beside its images
DOCUMENT_VALUES, FORM_VALUES = 10_000, 2000  # how many values a JSON body may have
IMAGE_VALUES = 8  # how many more it may have for each image
NAME_BYTES = 512  # how much a JSON body may have for each further image, beside the image itself


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a request: either an image in the spool, or refused before it was stored.

    Until the body has been read, a file that the request names by its path is neither. `sha256`
    tells a refused file from others of the same name. It is empty if the request names the path.
    """

    filename: str
    image: SpooledImage | None
    refused: Refused | None = None
    sha256: str = ""


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


def check_length(length: int, max_bytes: int) -> None:
    """Raise BodyTooLarge if `length` is over `max_bytes`."""
    if length > max_bytes:
        raise BodyTooLarge(f"the request body is over {shown_size(max_bytes)}")
