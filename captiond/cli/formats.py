"""How commands print: results as JSON, JSON lines or CSV, settings as TOML."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from typing import Any, TextIO

from captiond.errors import SettingsError
from captiond.sources import Origin

Show = Callable[[Mapping[str, Any]], None]
COLUMNS = ("image_path", "caption", "tags", "error", "code", "model", "width", "height")


class Format(StrEnum):
    """What standard output gets; PEOPLE is for a terminal."""

    PEOPLE = "people"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def pick_format(given: Mapping[Format, bool]) -> Format:
    """The format that was asked for; else the one that fits standard output.

    Raises:
        SettingsError: more than one was asked for.
    """
    asked = [chosen for chosen, is_asked in given.items() if is_asked]
    if len(asked) > 1:
        raise SettingsError("command line: choose one of " + ", ".join(f"--{f}" for f in asked))
    if asked:
        return asked[0]
    return Format.PEOPLE if sys.stdout.isatty() else Format.JSONL


@contextmanager
def printer(chosen: Format, out: TextIO) -> Iterator[Show]:
    """A function that prints one result; what the format needs around them is printed too."""
    match chosen:
        case Format.CSV:
            yield csv_printer(out)
        case Format.JSON:
            with json_array(out) as show:
                yield show
        case _:
            yield lambda result: print_line(json_text(result), out)


def csv_printer(out: TextIO) -> Show:
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
    writer.writeheader()

    def show(result: Mapping[str, Any]) -> None:
        writer.writerow({**result, "tags": ", ".join(result["tags"] or ())})
        out.flush()

    return show


@contextmanager
def json_array(out: TextIO) -> Iterator[Show]:
    """An array that is whole however its printing ends."""
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


def settings_as_toml(found: Iterable[Origin]) -> str:
    """The settings as a file that captiond reads, with each one's source as a comment."""
    lines: list[str] = []
    for section, group in groupby(found, key=lambda origin: origin.section):
        lines += ["", f"[{section}]"]
        for origin in group:
            entry = f"{origin.key} = {toml_value(origin.value)}"
            if origin.value is None:
                entry = f"# {origin.key} is not set"
            lines.append(f"{entry}  # {origin.source}")
    return "\n".join(lines[1:])


def toml_value(value: Any) -> str:
    """JSON's strings, numbers, booleans and arrays are TOML's too; its objects are not."""
    if isinstance(value, dict):
        entries = (f"{json_text(key)} = {toml_value(entry)}" for key, entry in value.items())
        return f"{{{', '.join(entries)}}}"
    return json_text(value)
