"""What a setting or a request option does and which values it takes, as text for people."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

TYPES = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def described(model: type[BaseModel], name: str) -> str:
    """Return a field's description and its values, for the help of a flag."""
    description = model.model_fields[name].description or ""
    values = values_of(model, name)
    return f"{description} Values: {values}." if values else description


def values_of(model: type[BaseModel], name: str) -> str:
    """Return the values that a field takes: `1 to 8`. Empty if the description says it all."""
    schema = schema_of(model)
    return values_text(schema["properties"][name], schema.get("$defs", {}))


@cache
def schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the JSON schema of a model. It takes milliseconds, and each field needs it."""
    return model.model_json_schema()


def values_text(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the values that a JSON schema allows."""
    if "$ref" in field:
        field = definitions[field["$ref"].rpartition("/")[2]]
    if "enum" in field:
        return ", ".join(field["enum"])
    if field.get("type") == "array":
        items = field["items"]
        return f"a list of {values_text(items, definitions)}" if "$ref" in items else "a list"
    if "maxLength" in field:
        return f"at most {field['maxLength']} characters"
    return range_text(field) or TYPES.get(field.get("type", ""), "")


def range_text(field: Mapping[str, Any]) -> str:
    """Return the bounds of a number, or an empty text if it has none."""
    least, above, most = (field.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if least is not None and most is not None:
        return f"{least:g} to {most:g}"
    low = f"at least {least:g}" if least is not None else ""
    low = f"above {above:g}" if above is not None else low
    high = f"at most {most:g}" if most is not None else ""
    return ", ".join(filter(None, (low, high)))
