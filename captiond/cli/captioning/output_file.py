"""The output file of `captiond caption`, which a later run can continue."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from captiond.cli.captioning.planning import Existing
from captiond.cli.formats import (
    BYTE_ORDER_MARK,
    Format,
    Show,
    csv_printer,
    format_by_name,
    json_array,
    json_text,
    print_line,
)
from captiond.cli.streams import writing_to
from captiond.errors import SettingsError
from captiond.imagetypes import image_type
from captiond.notation.csvrows import COLUMNS, csv_header, csv_line, harmless
from captiond.photofiles.embedding import HEAD
from captiond.photofiles.file_parts import reading_parts
from captiond.photofiles.replacement import is_file, may_write_to, real_path, write_whole


class OutputFile:
    """A file of results in one format.

    Results with a caption that are in it already are kept if the run continues it. Errors are not
    kept, since their images are tried again. Neither is a last line that a kill has cut off, nor
    the result of an image that is captioned again because another file of it is missing.

    Raises:
        SettingsError: the file exists, and it was not said what to do with it; or it is not an
            output of this command; or it cannot be read.
    """

    def __init__(self, path: Path, chosen: Format, existing: Existing, *, bom: bool) -> None:
        self.path = path
        self._format = chosen
        self._bom = bom
        self._kept: dict[str, str] = {}  # from the name of an image to its line
        folder = real_path(path).parent
        if not may_write_to(folder):
            raise SettingsError(f"command line: --output {path}: cannot write to {folder}")
        if is_file(path):
            self._check_no_image()
            self._read(existing)
        elif os.path.exists(path):  # noqa: PTH110 - of any length; as /dev/null, which must not become a file
            raise SettingsError(f"command line: --output {path}: this is not a file")

    def lists(self, image: Path) -> bool:
        """Return whether the file has a caption of this image."""
        return self._name_of(image) in self._kept

    def _name_of(self, image: Path) -> str:
        return harmless(str(image)) if self._format is Format.CSV else str(image)

    @contextmanager
    def opened(self, images: Iterable[Path]) -> Iterator[Show]:
        """Yield a function that adds a result. The file is complete after the block.

        `images` are those that get a new result.

        Raises:
            NotWritten: the file cannot be written.
            OutputFailed: a result cannot be added to it.
        """
        for image in images:
            self._kept.pop(self._name_of(image), None)
        write_whole(self.path, self._beginning().encode())
        with (
            writing_to(self.path),
            self.path.open("a", encoding="utf-8", newline="") as out,
        ):
            match self._format:
                case Format.CSV:
                    yield csv_printer(out)
                case Format.JSON:
                    with json_array(out, begun=bool(self._kept)) as show:
                        yield show
                case _:
                    yield lambda result: print_line(json_text(result), out)

    def _beginning(self) -> str:
        """Return the text of a file that has the results which are kept."""
        if self._format is Format.CSV:
            return (
                (BYTE_ORDER_MARK if self._bom else "") + csv_header() + "".join(self._kept.values())
            )
        if self._format is Format.JSON:
            return "[\n" + ",\n".join(self._kept.values()) if self._kept else ""
        return "".join(f"{line}\n" for line in self._kept.values())

    def _check_no_image(self) -> None:
        """Refuse an image, as the first one of `--output *.jpg` is. No flag asks for its loss."""
        with suppress(OSError), reading_parts(self.path) as content:
            if image_type(content[:HEAD]) is not None:
                raise SettingsError(f"command line: --output {self.path}: this is an image")

    def _read(self, existing: Existing) -> None:
        if existing is Existing.REFUSE:
            raise SettingsError(
                f"command line: {self.path} exists; --skip-existing continues it, --overwrite "
                "replaces it"
            )
        if existing is Existing.OVERWRITE:
            return
        try:
            text = self.path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise self._foreign(f"cannot be read: {error}") from error
        self._bom = self._bom or text.startswith(BYTE_ORDER_MARK)
        keep = self._keep_rows if self._format is Format.CSV else self._keep_lines
        try:
            keep(text.removeprefix(BYTE_ORDER_MARK))
        except csv.Error as error:
            raise self._foreign(f"it is not CSV: {error}") from error

    def _keep_lines(self, text: str) -> None:
        """Keep what is complete of JSON lines, or of an array with an object on each line."""
        *lines, last = text.split("\n")
        for number, line in enumerate([*lines, last]):
            content = line.removesuffix(",")
            if not content or content in "[]":
                continue
            try:
                result = json.loads(content)
                if result["error"] is None:
                    self._kept[result["image_path"]] = content
            except (ValueError, TypeError, KeyError, RecursionError) as problem:
                if number == len(lines):  # it was cut off
                    return
                raise self._foreign(f"line {number + 1} is not a result") from problem

    def _keep_rows(self, text: str) -> None:
        rows = csv.reader(io.StringIO(text, newline=""))
        if next(rows, [*COLUMNS]) != [*COLUMNS]:
            raise self._foreign("it has other columns")
        complete = text.endswith("\r\n")
        before: list[str] | None = None
        for row in rows:
            self._keep_row(before)
            before = row
        self._keep_row(before if complete else None)

    def _keep_row(self, row: list[str] | None) -> None:
        if row is None:
            return
        if len(row) != len(COLUMNS):
            raise self._foreign("a row has another number of columns")
        cells = dict(zip(COLUMNS, row, strict=True))
        if not cells["error"]:
            self._kept[cells["image_path"]] = csv_line(row)

    def _foreign(self, problem: str) -> SettingsError:
        return SettingsError(
            f"command line: {self.path}: {problem}; give another --output, or --overwrite"
        )


def output_format(path: Path, given: Format | None) -> Format:
    """Return the format of an output file: that of the flags, or else that of its name."""
    return given or format_by_name(path)
