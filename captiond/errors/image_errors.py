"""Errors of one image, which do not affect the other images of a request."""

from captiond.errors.captiond_error import CaptiondError


class ImageError(CaptiondError):
    """An image cannot be captioned. The error does not affect other images."""

    code = "invalid_image"
    status = 400


class EmptyImage(ImageError):
    """The file has no bytes."""

    code = "empty_image"


class NotAnImage(ImageError):
    """The file has no image type that captiond knows."""

    code = "not_an_image"


class ImageTypeRefused(ImageError):
    """The image has a type that `[images] types` does not list."""

    code = "image_type_refused"


class CorruptImage(ImageError):
    """The file begins like an image, but it cannot be decoded: it is truncated or damaged."""

    code = "corrupt_image"


class TooManyPixels(ImageError):
    """The header declares more pixels than `[images] max_pixels`. No pixel has been decoded."""

    code = "too_many_pixels"


class TooMuchMemory(ImageError):
    """Decoding the image takes more memory than image decoders may have here."""

    code = "too_much_memory"


class PoisonImage(ImageError):
    """The processes that worked on this image died repeatedly."""

    code = "poison_image"


class ImageTooSlow(ImageError):
    """Decoding the image takes longer than `[images] decode_seconds` of processor time."""

    code = "image_too_slow"


class FileTooLarge(ImageError):
    """A file is larger than `[limits] file_bytes`."""

    code = "file_too_large"
    status = 413


class ReferenceUnreadable(ImageError):
    """The file or the object at an address cannot be read. Only commands read such addresses."""

    code = "reference_unreadable"


class ReferenceUnavailable(ReferenceUnreadable):
    """The file or the object cannot be read now, but another attempt may succeed."""


class PathRefused(ImageError):
    """The field `path` names no regular file under `[images] root`."""

    code = "path_refused"


class NotBase64(ImageError):
    """The text of an image in a JSON body is not base64."""

    code = "not_base64"


class UrlRefused(ImageError):
    """The text of an image in a JSON body is a URL that would have to be fetched."""

    code = "url_refused"
