"""Results as the rows of a CSV file that a spreadsheet may open."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = (
    "image_path", "caption", "tags", "error", "code", "model", "width", "height", "alt_text",
    "caption_language", "caption_en",
)  # fmt: skip
# A spreadsheet runs a cell that begins like this as a formula, whoever has written it: a file name
# can be `=HYPERLINK(…)`. Some also know the wide forms of Japanese keyboards.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_header() -> str:
    """Return the first line."""
    return csv_line(COLUMNS)


def csv_row(result: Mapping[str, Any]) -> str:
    """Return the line of one result, whose fields are those of the HTTP API."""
    cells = {**result, "tags": ", ".join(result["tags"] or ())}
    return csv_line(harmless(cells.get(column)) for column in COLUMNS)


def harmless(value: Any) -> Any:
    """Return a cell. A text that a spreadsheet would run gets an apostrophe in front.

    Bytes of a file name that are not UTF-8 are escaped: `\\udce9`.
    """
    if not isinstance(value, str):
        return value
    if not value.isascii():
        value = value.encode(errors="backslashreplace").decode()
    # guard: no-formulas
    if value.startswith(FORMULA):
        return f"'{value}"
    return value


def csv_line(cells: Iterable[object]) -> str:
    """Return one line (RFC 4180)."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
