"""Lists and tables that are written as text, in an environment variable, a flag or a form field."""

import re
from typing import TypeVar

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


Listed = BeforeValidator(read_list)
Tabled = BeforeValidator(read_table)
NotEmpty = AfterValidator(check_not_empty)
