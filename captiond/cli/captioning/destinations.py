"""Where `captiond caption` writes results: files beside an image, or the image itself."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from captiond.cli.captioning.result_choices import SidecarKind, TextContent, XmpName
from captiond.cli.formats import json_text
from captiond.imagetypes import image_type
from captiond.photofiles.embedding import HEAD, embed, embedded_words, has_embedded_words
from captiond.photofiles.file_parts import reading_parts
from captiond.photofiles.image_words import NewWords
from captiond.photofiles.merging import has_own_words, merge
from captiond.photofiles.metadata_errors import NotWritten
from captiond.photofiles.replacement import is_file, not_written, rewrite_image, write_whole
from captiond.photofiles.xmp_packet import EMPTY

Result = Mapping[str, Any]
SIDECARS = {f".{kind}" for kind in SidecarKind}
XML_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that has the result of an image. `kept` are fields that a person had filled in."""

    path: Path
    kept: tuple[str, ...] = ()


class Destination(Protocol):
    """A way to keep the result of an image."""

    def path_for(self, image: Path) -> Path:
        """Return the file that the result of an image is written to."""

    def is_written(self, image: Path) -> bool:
        """Return whether there is a result of this image already.

        Raises:
            NotWritten: there can be none; the message says why.
        """

    def write(self, image: Path, result: Result) -> WrittenFile:
        """Write the result of an image.

        Raises:
            NotWritten: that is not possible. The file is as it was.
        """


@dataclass(frozen=True, slots=True)
class TextSidecar:
    """A text file of one line, from which programs learn what an image shows."""

    content: TextContent
    prefix: str = ""
    suffix: str = ""

    def path_for(self, image: Path) -> Path:
        """Return `photo.txt` for `photo.jpg`."""
        return image.with_suffix(".txt")

    def is_written(self, image: Path) -> bool:
        """Return whether the file exists, whoever has written it.

        Raises:
            NotWritten: it is an image, whatever its name says.
        """
        path = self.path_for(image)
        if not is_there(path):
            return False
        with about(path), reading_parts(path) as content:
            if image_type(content[:HEAD]) is not None:
                raise NotWritten("it is an image; rename it")
        return True

    def write(self, image: Path, result: Result) -> WrittenFile:
        """Write the line."""
        tags = ", ".join(result["tags"])
        parts = {
            TextContent.CAPTION: [result["caption"]],
            TextContent.TAGS: [tags],
            TextContent.BOTH: [result["caption"], tags],
        }
        text = ", ".join(filter(None, parts[self.content]))
        path = self.path_for(image)
        write_whole(path, f"{self.prefix}{text}{self.suffix}\n".encode())
        return WrittenFile(path)


@dataclass(frozen=True, slots=True)
class JsonSidecar:
    """A JSON file with all that is known of an image."""

    def path_for(self, image: Path) -> Path:
        """Return `photo.json` for `photo.jpg`."""
        return image.with_suffix(".json")

    def is_written(self, image: Path) -> bool:
        """Return whether the file exists.

        Raises:
            NotWritten: it is not a file that captiond has written.
        """
        path = self.path_for(image)
        if not is_there(path):
            return False
        with about(path):
            if not is_result(content_of(path)):
                raise NotWritten("it is not a result of captiond; rename it")
        return True

    def write(self, image: Path, result: Result) -> WrittenFile:
        """Write the result as an object with indentation."""
        path = self.path_for(image)
        fields = {name: value for name, value in result.items() if name != "files"}
        text = json_text(fields | {"image_path": image.name}, indent=2)
        write_whole(path, f"{text}\n".encode())
        return WrittenFile(path)


class Namesakes:
    """How many files of each name there are in a folder, apart from sidecars. It is read once."""

    def __init__(self) -> None:
        self._names: dict[Path, Counter[str]] = {}

    def is_alone(self, image: Path) -> bool:
        """Return whether an image is the only file of its name."""
        folder = image.parent
        if folder not in self._names:
            self._names[folder] = names_in(folder)
        return self._names[folder][image.stem] == 1


def names_in(folder: Path) -> Counter[str]:
    """Return how often each name is in a folder. It is empty if the folder cannot be listed."""
    try:
        return Counter(
            path.stem for path in folder.iterdir() if path.suffix.lower() not in SIDECARS
        )
    except OSError:
        return Counter()


@dataclass(frozen=True, slots=True)
class XmpSidecar:
    """An XMP file, which may have other words and settings of a person."""

    name: XmpName
    overwrite: bool
    namesakes: Namesakes = field(default_factory=Namesakes)

    def path_for(self, image: Path) -> Path:
        """Return the XMP file that there is, of either form, or else the one to create.

        `photo.xmp` counts only if `photo.jpg` is the only file of this name. Otherwise it may
        belong to another one, such as `photo.cr3`.
        """
        full, stem = image.with_name(f"{image.name}.xmp"), image.with_suffix(".xmp")
        for path in (full, stem):
            for there in (path, path.with_suffix(".XMP")):
                if is_file(there) and (path is full or self.namesakes.is_alone(image)):
                    return there
        alone = self.name is XmpName.STEM and self.namesakes.is_alone(image)
        return stem if alone else full

    def is_written(self, image: Path) -> bool:
        """Return whether captiond has written into the file.

        Raises:
            NotWritten: it is not XMP.
        """
        path = self.path_for(image)
        with about(path):
            return is_there(path) and has_own_words(content_of(path))

    def write(self, image: Path, result: Result) -> WrittenFile:
        """Write caption and tags beside what is there."""
        path = self.path_for(image)
        with about(path):
            old = path.stat() if is_there(path) else None
            there = b"" if old is None else content_of(path)
            with reading_parts(image) as content:
                other = embedded_words(content)
            packet = there or XML_DECLARATION + EMPTY
            merged = merge(packet, words_of(result), other, overwrite=self.overwrite)
        write_whole(path, merged.packet, old)
        return WrittenFile(path, merged.kept)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """The metadata of the image file itself."""

    overwrite: bool

    def path_for(self, image: Path) -> Path:
        """Return the image."""
        return image

    def is_written(self, image: Path) -> bool:
        """Return whether captiond has written into the image.

        Raises:
            NotWritten: the image cannot have metadata.
        """
        with about(image), reading_parts(image) as content:
            return has_embedded_words(content)

    def write(self, image: Path, result: Result) -> WrittenFile:
        """Write caption and tags beside what is there."""
        with about(image):
            old = image.stat()
            content, merged = embed(content_of(image), words_of(result), overwrite=self.overwrite)
        rewrite_image(image, content, old)
        return WrittenFile(image, merged.kept)


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Name a file in each NotWritten of the block, and turn an OSError into one."""
    try:
        yield
    except NotWritten as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise not_written(path, error) from error


def is_there(path: Path) -> bool:
    """Return whether a file is there.

    Raises:
        NotWritten: a folder, a pipe or a link to nothing is there.
    """
    if is_file(path):
        return True
    if os.path.lexists(path):
        raise NotWritten(f"{path}: this is not a file; rename it")
    return False


def content_of(path: Path) -> bytes:
    """Return the content of a file. Raises NotWritten if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotWritten(f"cannot be read: {error.strerror}") from error


def is_result(content: bytes) -> bool:
    """Return whether a file is JSON that captiond has written for one image."""
    try:
        result = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(result, dict) and {"image_path", "caption", "tags"} <= result.keys()


def words_of(result: Result) -> NewWords:
    """Return what is written of a result into metadata."""
    tags = tuple((tag["tag"], str(tag["category"])) for tag in result["tag_details"])
    caption = result["caption"]
    # Services of earlier versions give no alternative text.
    return NewWords(
        caption,
        tags,
        result["model"],
        result.get("alt_text") or caption,
        result.get("caption_language") or "",
        result.get("caption_en") or "",
    )
