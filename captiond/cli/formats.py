"""Output formats of the commands: results as JSON, JSON lines or CSV, settings as TOML."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from typing import Any, TextIO

from captiond.csvrows import csv_header, csv_row
from captiond.errors import SettingsError
from captiond.sources import Origin

Show = Callable[[Mapping[str, Any]], None]


class Format(StrEnum):
    """An output format. PEOPLE is text for people on a terminal."""

    PEOPLE = "people"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def pick_format(given: Mapping[Format, bool]) -> Format:
    """Return the format whose flag is given, or else the one that suits standard output.

    Raises:
        SettingsError: more than one flag is given.
    """
    asked = [chosen for chosen, is_asked in given.items() if is_asked]
    if len(asked) > 1:
        raise SettingsError("command line: choose one of " + ", ".join(f"--{f}" for f in asked))
    if asked:
        return asked[0]
    return Format.PEOPLE if sys.stdout.isatty() else Format.JSONL


@contextmanager
def printer(chosen: Format, out: TextIO) -> Iterator[Show]:
    """Yield a function that prints one result. The start and end of the output are printed, too."""
    match chosen:
        case Format.CSV:
            yield csv_printer(out)
        case Format.JSON:
            with json_array(out) as show:
                yield show
        case _:
            yield lambda result: print_line(json_text(result), out)


def csv_printer(out: TextIO) -> Show:
    """Print the header, and return a function that prints one result as a row."""
    out.write(csv_header())

    def show(result: Mapping[str, Any]) -> None:
        out.write(csv_row(result))
        out.flush()

    return show


@contextmanager
def json_array(out: TextIO) -> Iterator[Show]:
    """Yield a function that prints one result. The array is closed even after an exception."""
    between = "[\n"

    def show(result: Mapping[str, Any]) -> None:
        nonlocal between
        out.write(between + json_text(result))
        between = ",\n"

    try:
        yield show
    finally:
        print_line("[]" if between == "[\n" else "\n]", out)


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def print_line(text: str, out: TextIO) -> None:
    out.write(text + "\n")
    out.flush()


def settings_as_toml(settings: Iterable[Origin]) -> str:
    """Return the settings as a TOML file. The source of each setting is a comment."""
    lines: list[str] = []
    for section, group in groupby(settings, key=lambda origin: origin.section):
        lines += ["", f"[{section}]"]
        for origin in group:
            entry = f"{origin.key} = {toml_value(origin.value)}"
            if origin.value is None:
                entry = f"# {origin.key} is not set"
            lines.append(f"{entry}  # {origin.source}")
    return "\n".join(lines[1:])


def toml_value(value: Any) -> str:
    """Return a value in TOML. JSON has the same syntax, except for tables."""
    if isinstance(value, dict):
        entries = (f"{json_text(key)} = {toml_value(entry)}" for key, entry in value.items())
        return f"{{{', '.join(entries)}}}"
    return json_text(value)
