"""Values that are written as text, in an environment variable, a flag, a file or a form field."""

import re
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError, from_json

Items = TypeVar("Items", bound=tuple[object, ...] | None)
JSON_LIST = re.compile(r'\s*\[\s*["\]]')  # not "[::1]:80", which is a host


def read_list(value: object) -> object:
    """Return the items of a list: `png, jpeg` and `["png", "jpeg"]` are the same list.

    A value that is not text is returned unchanged.

    Raises:
        PydanticCustomError: the text begins like a JSON array and is not one.
    """
    if not isinstance(value, str):
        return value
    if JSON_LIST.match(value):
        return read_json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def read_table(value: object) -> object:
    """Return the entries of a table: `en=a, de=b` and `{"en": "a", "de": "b"}` are the same table.

    A value that is not text is returned unchanged.

    Raises:
        PydanticCustomError: the text has neither form.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return read_json(value)
    entries: dict[str, str] = {}
    for part in filter(None, map(str.strip, value.split(","))):
        key, equals, entry = part.partition("=")
        if not equals:
            # The entry is not shown: it may be a secret.
            message = "Input should be KEY=VALUE,KEY=VALUE or a JSON object; an entry has no ="
            raise PydanticCustomError("table_parsing", message)
        entries[key.strip()] = entry.strip()
    return entries


def read_json(text: str) -> object:
    """Return the value of a JSON text.

    Raises:
        PydanticCustomError: the text is not JSON, or is nested too deeply.
    """
    try:
        value: object = from_json(text)
    except ValueError as error:
        message = "Input should be valid JSON: {reason}"
        raise PydanticCustomError("json_invalid", message, {"reason": str(error)}) from None
    return value


def check_not_empty(value: Items) -> Items:
    """Return `value` unless it is an empty list.

    pydantic's `min_length` would report a list as empty whose items were all rejected.

    Raises:
        PydanticCustomError: the list is empty.
    """
    if value is not None and not value:
        raise PydanticCustomError("too_short", "List should have at least 1 item")
    return value


def read_choice(value: object) -> object:
    """Return a word in lower case: `INFO` and `info` are the same choice."""
    return value.strip().lower() if isinstance(value, str) else value


def in_home(value: object) -> object:
    """Return a path in which `~` or `~user` at the beginning is the home folder of a user.

    Only a shell replaces these, so they arrive from files, from variables and after an equals sign.

    Raises:
        PydanticCustomError: there is no such folder. Some containers have users without one. Or the
            path has a NUL character, which a file of settings can write and no path can have.
    """
    if isinstance(value, str | Path) and "\0" in str(value):
        raise PydanticCustomError("nul_in_path", "Path should have no NUL character")
    if not isinstance(value, str | Path) or not str(value).startswith("~"):
        return value
    try:
        return type(value)(Path(value).expanduser())
    except RuntimeError:
        message = "{begin} stands for a home folder, but there is none; write the whole path"
        begin = Path(value).parts[0]
        raise PydanticCustomError("no_home", message, {"begin": begin}) from None


def no_path(value: object) -> object:
    """Return None for an empty path. Otherwise it would be the current folder."""
    return None if value == "" else value


def check_path(value: object) -> object:
    """Refuse an empty path: it would be the current folder.

    Raises:
        PydanticCustomError: the path is empty.
    """
    if value == "":
        raise PydanticCustomError("empty_path", "Path should not be empty")
    return value


Listed = BeforeValidator(read_list)
Tabled = BeforeValidator(read_table)
NotEmpty = AfterValidator(check_not_empty)
AnyCase = BeforeValidator(read_choice)
InHome = BeforeValidator(in_home)
NeededPath = Annotated[Path, InHome, BeforeValidator(check_path)]
OptionalPath = Annotated[Path | None, InHome, BeforeValidator(no_path)]
