"""The form that a JSON body of captiond's own calls stands for.

The body of a call for one image describes it by `image` and `filename`, or by `path`. That of a
call for several has a list of them: each is the image itself, or an object with these keys. All
other keys are options.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from captiond.errors import TooManyFiles
from captiond.settings.config import Settings
from captiond.web.field_problems import Problem, extra, nearest, problem
from captiond.web.problems import InvalidRequest
from captiond.web.uploading.forms import FILENAME, IMAGE, Form, FormSpec, Upload
from captiond.web.uploading.jsonbody import ImageReference
from captiond.web.uploading.jsonscanner import Path
from captiond.web.uploading.multipart import MAX_FILENAME
from captiond.web.uploading.named_files import FIELD as PATH_FIELD

KEYS = (IMAGE, FILENAME, PATH_FIELD)


def fill_form(form: Form, spec: FormSpec, settings: Settings) -> None:
    """Put the images and the fields of the document into the form.

    Raises:
        InvalidRequest: an image is described wrongly.
        TooManyFiles
    """
    assert form.document is not None
    fields = {name: value for name, value in form.document.items() if value is not None}
    reader = DescriptionReader(form.uploads, root=settings.images.root is not None)
    if spec.single:
        described = {name: fields.pop(name) for name in spec.json_keys if name in fields}
        found = [reader.read(described, ())] if described else []
    else:
        found = reader.read_list(fields.pop(spec.field, []), (spec.field,))
    if reader.problems:
        raise InvalidRequest(reader.problems)
    most = spec.max_files(settings.limits)
    if len(found) > most:
        raise TooManyFiles(f"too many files in {spec.field!r}: at most {most} in a request")
    form.uploads = [upload for upload in found if upload is not None]
    form.fields = fields


class DescriptionReader:
    """Reads descriptions of images, and collects what is wrong with them in `problems`.

    `uploads` are the images of the body, and `root` says whether it may name files.
    """

    def __init__(self, uploads: list[Upload], *, root: bool) -> None:
        self._uploads = uploads
        self._root = root
        self.problems: list[Problem] = []

    def read_list(self, value: Any, place: Path) -> list[Upload | None]:
        """Return the upload of each item of a list. It is None if the item is wrong."""
        if not isinstance(value, list):
            self._wrong("list_type", place, "Input should be a valid list", value)
            return []
        return [self._read_item(item, (*place, at)) for at, item in enumerate(value)]

    def read(self, described: Mapping[str, Any], place: Path) -> Upload | None:
        """Return the upload that an object describes."""
        for name in described.keys() - set(KEYS):
            near = nearest(name, KEYS, 0.5)
            hint = f"did you mean {near}?" if near else "an image has image and filename, or path"
            self.problems.append(extra((*place, name), described[name], hint))
        path, filename = described.get(PATH_FIELD), described.get(FILENAME)
        if path is not None:
            return self._named(described, path, place)
        if IMAGE not in described:
            self._wrong("missing", (*place, IMAGE), "Field required", None)
            return None
        if filename is not None and not isinstance(filename, str):
            self._wrong("string_type", (*place, FILENAME), "Input should be a string", filename)
            return None
        return self._sent(described.get(IMAGE), (*place, IMAGE), filename)

    def _read_item(self, item: Any, place: Path) -> Upload | None:
        if isinstance(item, dict):
            return self.read(item, place)
        return self._sent(item, place, None)

    def _sent(self, image: Any, place: Path, filename: str | None) -> Upload | None:
        """Return the upload of an image that the body has."""
        if not isinstance(image, ImageReference):
            message = "Input should be a string: the image in base64, or as a data URL"
            self._wrong("string_type", place, message, image)
            return None
        upload = self._uploads[image.position]
        return replace(upload, filename=filename[:MAX_FILENAME]) if filename else upload

    def _named(self, described: Mapping[str, Any], path: Any, place: Path) -> Upload | None:
        """Return the upload of a file that the body names."""
        place = (*place, PATH_FIELD)
        if described.get(IMAGE) is not None:
            self._wrong("value_error", place, "there is an image as well; send one of both", path)
        elif not isinstance(path, str):
            self._wrong("string_type", place, "Input should be a string", path)
        elif not self._root:
            message = "requests cannot name files here: [images] root is not set"
            self._wrong("value_error", place, message, path)
        else:
            return Upload(path, None)
        return None

    def _wrong(self, kind: str, place: Path, message: str, value: object) -> None:
        self.problems.append(problem(kind, place, message, value))
