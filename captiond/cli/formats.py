"""Output formats of the commands: results as JSON, JSON lines or CSV, settings as TOML."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from captiond.errors import SettingsError
from captiond.notation.csvrows import csv_header, csv_row
from captiond.settings.sources import Origin

Show = Callable[[Mapping[str, Any]], None]
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
BYTE_ORDER_MARK = "\ufeff"
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


STANDARD_OUTPUT = Path("-")


class Format(StrEnum):
    """An output format. PEOPLE is text for people on a terminal."""

    PEOPLE = "people"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


EXTENSIONS = {".json": Format.JSON, ".csv": Format.CSV}
# A program that opens such a file expects another format than JSON lines.
OTHER_EXTENSIONS = {
    *(".xlsx", ".xls", ".ods", ".tsv", ".tab", ".parquet", ".xml", ".html", ".htm", ".md"),
    *(".yaml", ".yml", ".toml", ".sqlite", ".db", ".zip", ".gz", ".zst", ".bz2", ".xz"),
}


def pick_format(asked: Sequence[Format]) -> Format:
    """Return the format that is asked for, or else the one that suits standard output.

    Raises:
        SettingsError: more than one is asked for.
    """
    if len(asked) > 1:
        raise SettingsError("command line: choose one of " + ", ".join(f"--{f}" for f in asked))
    if asked:
        return asked[0]
    return Format.PEOPLE if sys.stdout.isatty() else Format.JSONL


def format_by_name(path: Path) -> Format:
    """Return the format of an output file by its extension. Without one, it is JSON lines.

    Raises:
        SettingsError: it is an extension of another format.
    """
    extension = path.suffix.lower()
    if extension in OTHER_EXTENSIONS:
        raise SettingsError(
            f"command line: {path}: {extension} is no format of captiond; name a file with .csv, "
            ".json or .jsonl, or choose one of --csv, --json, --jsonl"
        )
    return EXTENSIONS.get(extension, Format.JSONL)


@contextmanager
def printer(chosen: Format, out: TextIO, *, bom: bool = False) -> Iterator[Show]:
    """Yield a function that prints one result. The start and end of the output are printed, too.

    The output is in UTF-8, whatever the locale: programs read it. With `bom`, CSV begins with a
    byte order mark, by which spreadsheets know UTF-8.
    """
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding="utf-8")
    match chosen:
        case Format.CSV:
            out.write((BYTE_ORDER_MARK if bom else "") + csv_header())
            yield csv_printer(out)
        case Format.JSON:
            with json_array(out) as show:
                yield show
        case _:
            yield lambda result: print_line(json_text(result), out)


def csv_printer(out: TextIO) -> Show:
    """Return a function that prints one result as a row."""

    def show(result: Mapping[str, Any]) -> None:
        out.write(csv_row(result))
        out.flush()

    return show


@contextmanager
def json_array(out: TextIO, *, begun: bool = False) -> Iterator[Show]:
    """Yield a function that prints one result. The array is closed even after an exception.

    If the array is `begun`, its first items have been printed.
    """
    between = ",\n" if begun else "[\n"

    def show(result: Mapping[str, Any]) -> None:
        nonlocal between
        out.write(between + json_text(result))
        out.flush()
        between = ",\n"

    try:
        yield show
    finally:
        print_line("[]" if between == "[\n" else "\n]", out)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON. Bytes of a file name that are not UTF-8 are escaped: `\\udce9`."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isascii() else LONE_SURROGATE.sub(as_escape, text)


def as_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def print_line(text: str, out: TextIO) -> None:
    out.write(text + "\n")
    out.flush()


def settings_as_toml(settings: Iterable[Origin], *, coloured: bool = False) -> str:
    """Return the settings as a TOML file. The source of each setting is a comment.

    A setting that differs from its default is marked, on a terminal also by its colour.
    """
    lines: list[str] = []
    for section, group in groupby(settings, key=lambda origin: origin.section):
        lines += ["", f"[{section}]"]
        for origin in group:
            line = setting_line(origin)
            lines.append(f"{BOLD}{line}{PLAIN}" if coloured and origin.differs else line)
    return "\n".join(lines[1:])


def setting_line(origin: Origin) -> str:
    """Return a setting with its source, and with its default if it differs from that.

    A value that TOML cannot express is a comment: none, or one with bytes that are not UTF-8.
    """
    entry = f"{origin.key} = {toml_value(origin.value)}"
    if origin.value is None:
        entry = f"# {origin.key} is not set"
    elif LONE_SURROGATE.search(json.dumps(origin.value, ensure_ascii=False)):
        entry = f"# {entry}, which is not UTF-8, so that no settings file can have it"
    if not origin.differs:
        return f"{entry}  # {origin.source}"
    default = "not set" if origin.default is None else toml_value(origin.default)
    return f"{entry}  # <- {origin.source}; default: {default}"


def toml_value(value: Any) -> str:
    """Return a value in TOML. JSON has the same syntax, except for tables."""
    if isinstance(value, dict):
        entries = (f"{json_text(key)} = {toml_value(entry)}" for key, entry in value.items())
        return f"{{{', '.join(entries)}}}"
    return json_text(value)
