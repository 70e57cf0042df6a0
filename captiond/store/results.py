"""Outcomes and options as JSON text in the database, and back.

Reading is tolerant, because a row may be older or newer than this captiond: unknown keys are
ignored, and missing ones get their defaults. Text that still cannot be read raises Unreadable.
"""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from captiond.errors import CaptiondError
from captiond.jobs import DEFAULT_OPTIONS, Captioned, ImageView, Options, Outcome, Refused, Status

T = TypeVar("T")
CAPTIONED, REFUSED, OPTIONS = TypeAdapter(Captioned), TypeAdapter(Refused), TypeAdapter(Options)


# PostgreSQL stores no U+0000, which a file name in a JSON body may have.
NUL, ESCAPE = "\0", "\ue000"  # ESCAPE has no meaning of its own in Unicode


def storable(name: str) -> str:
    """Return a file name as it is stored."""
    if NUL not in name and ESCAPE not in name:
        return name
    return name.replace(ESCAPE, f"{ESCAPE}1").replace(NUL, f"{ESCAPE}0")


def stored_name(text: str) -> str:
    """Return the file name that was stored as this text."""
    return text.replace(f"{ESCAPE}0", NUL).replace(f"{ESCAPE}1", ESCAPE)


def printable(text: str) -> str:
    """Return a text that may hold file names as one that can be stored, encoded and shown.

    Bytes of a name that are not UTF-8, and U+0000, are escaped.
    """
    return text.encode(errors="backslashreplace").decode().replace(NUL, r"\0")


def is_storable(text: str) -> bool:
    """Return whether a database can have such a text, for texts that a client looks for."""
    return NUL not in text


class Unreadable(CaptiondError):
    """Stored JSON that is damaged, or that a newer captiond wrote."""

    code = "result_unreadable"


def result_text(outcome: Outcome) -> str:
    """Return an outcome as the text of a JSON column."""
    return text_of(REFUSED if isinstance(outcome, Refused) else CAPTIONED, outcome)


def outcome_from(status: Status, text: str) -> Outcome:
    """Return the outcome of a COMPLETED or FAILED image."""
    return parsed(CAPTIONED, text) if status is Status.COMPLETED else parsed(REFUSED, text)


def captioned_from(text: str) -> Captioned:
    """Return the caption in a JSON text.

    Raises:
        Unreadable: It holds none.
    """
    return parsed(CAPTIONED, text)


def image_view(filename: str, sha256: str | None, status: Status, text: str | None) -> ImageView:
    """Return an image as clients see it.

    A finished image whose result cannot be read is a failed one: the damage of one row must not
    hide the rest of the task.
    """
    filename = stored_name(filename)
    if status not in {Status.COMPLETED, Status.FAILED}:
        return ImageView(filename, sha256, status, None)
    try:
        return ImageView(filename, sha256, status, outcome_from(status, text or ""))
    except Unreadable as error:
        message = f"the stored result cannot be read ({error}); send the image again"
        refused = Refused(message, error.code, error.status)
        return ImageView(filename, sha256, Status.FAILED, refused)


def options_text(options: Options) -> str | None:
    """Return options as the text of a JSON column, or None if they are the defaults.

    Their origin is stored as well, so that logs and traces of a task name it after a restart.
    """
    plain = options == DEFAULT_OPTIONS and options.origin is None
    return None if plain else text_of(OPTIONS, options)


def options_from(text: str | None) -> Options:
    """Return the options in a column.

    Raises:
        Unreadable: They cannot be read.
    """
    return DEFAULT_OPTIONS if text is None else parsed(OPTIONS, text)


def text_of(adapter: TypeAdapter[Any], value: object) -> str:
    try:
        return adapter.dump_json(value).decode()
    except PydanticSerializationError:  # half of a surrogate pair, which UTF-8 cannot encode
        text = json.dumps(adapter.dump_python(value, mode="json"), ensure_ascii=False)
        return text.encode(errors="replace").decode()


def parsed(adapter: TypeAdapter[T], text: str) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the text"
        raise Unreadable(f"{place}: {first['msg']}") from error
