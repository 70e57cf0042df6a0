"""The responses in the document: those of the table, and one entry for each status of errors."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence

from captiond.errors import CaptiondError, TooManyRequests, Unauthorized, Unavailable
from captiond.web.openapi.schema_set import Schema, SchemaSet
from captiond.web.operation import (
    ANY_REQUEST,
    BY_THE_PROTOCOL,
    ErrorForm,
    Operation,
    ResponseSpec,
)

JSON, EVENTS = "application/json", "text/event-stream"
TEXT_SCHEMA: Schema = {"type": "string"}
NO_BODY = {204, 304}
COMMON_HEADERS: Schema = {
    "X-Request-ID": {
        "description": "The id of the request: the one that the client has sent, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    }
}
OF_EACH_RESPONSE = {name: {"$ref": f"#/components/headers/{name}"} for name in COMMON_HEADERS}
RETRY_AFTER: Schema = {
    "description": "After how many seconds another try may succeed.",
    "schema": {"type": "integer", "minimum": 1},
}
AUTHENTICATE: Schema = {
    "description": "How to send a key: `Bearer`.",
    "required": True,
    "schema": {"type": "string"},
}


class UnknownPath(CaptiondError):
    """There is no such path. Starlette says so, for a value of the path that has a slash."""

    code = "not_found"
    status = 404


def responses(operation: Operation, schemas: SchemaSet) -> dict[str, Schema]:
    """Return all responses of an operation by their status, in ascending order."""
    found: dict[int, Schema] = {}
    for spec in operation.responses:
        entry = found.setdefault(spec.status, {"description": spec.description})
        entry["headers"] = {**entry.get("headers", OF_EACH_RESPONSE), **listed_headers(spec)}
        if spec.status not in NO_BODY:
            entry.setdefault("content", {})[spec.media_type] = content_of(spec, schemas)
    for status, errors in errors_of(operation).items():
        add_errors(found, status, errors, operation.error_form, schemas)
    return {str(status): found[status] for status in sorted(found)}


def listed_headers(spec: ResponseSpec) -> Schema:
    return {
        name: {"description": text, "required": True, "schema": {"type": "string"}}
        for name, text in spec.headers.items()
    }


def content_of(spec: ResponseSpec, schemas: SchemaSet) -> Schema:
    """Return the entry of one media type.

    OpenAPI 3.1 has no keyword for the items of a stream. `x-item-schema` has their schema. The
    schema of server-sent events is that of one event, as tools read it.
    """
    if spec.schema is not None:
        return {"schema": schemas.of(spec.schema, "serialization")}
    if spec.item is None:
        return {"schema": TEXT_SCHEMA}
    item = schemas.of(spec.item, "serialization")
    text = event_of(item, spec.last) if spec.media_type == EVENTS else TEXT_SCHEMA
    return {"schema": text, "x-item-schema": item}


def event_of(item: Schema, last: str | None = None) -> Schema:
    """Return the schema of a server-sent event with this JSON in its data, or the text `last`."""
    data: Schema = {"contentMediaType": JSON, "contentSchema": item}
    if last is not None:
        data = {"anyOf": [data, {"const": last}]}
    data["description"] = "JSON." if last is None else f"JSON. The last event has {last}."
    return {
        "type": "object",
        "required": ["data"],
        "properties": {
            "event": {"type": "string", "description": "The kind of the event."},
            "id": {"type": "string", "description": "The value for Last-Event-ID."},
            "data": {"type": "string", **data},
        },
    }


def errors_of(operation: Operation) -> dict[int, list[type[CaptiondError]]]:
    """Return the errors that may answer a request, by their status."""
    of_paths = (UnknownPath,) if "{" in operation.path else ()
    known = (*operation.errors, *of_paths, *ANY_REQUEST, *BY_THE_PROTOCOL, CaptiondError)
    found: dict[int, list[type[CaptiondError]]] = defaultdict(list)
    for error in dict.fromkeys(known):
        same = found[operation.error_form.status_of(error)]
        if all(error.code != other.code for other in same):
            same.append(error)
    return found


def add_errors(
    found: dict[int, Schema],
    status: int,
    errors: Sequence[type[CaptiondError]],
    form: ErrorForm,
    schemas: SchemaSet,
) -> None:
    """Add the errors of a status to the responses, beside a response that is no error."""
    headers = error_headers(errors)
    schema = with_codes(schemas.of(form.schema, "serialization"), form, errors)
    lines = [f"- `{error.code}`: {first_line(error)}" for error in errors]
    entry = found.get(status)
    if entry is None:
        text = "\n".join(lines)
        found[status] = {
            "description": text,
            "headers": {**OF_EACH_RESPONSE, **headers},
            "content": {JSON: {"schema": schema}},
        }
        return
    entry["description"] += "\n\nOr an error:\n\n" + "\n".join(lines)
    entry["headers"] = {**entry["headers"], **optional(headers)}
    other = entry["content"].get(JSON)
    alternatives = [schema] if other is None else [other["schema"], schema]
    entry["content"][JSON] = {"schema": {"anyOf": alternatives}}


def optional(headers: Schema) -> Schema:
    return {name: {**header, "required": False} for name, header in headers.items()}


def with_codes(schema: Schema, form: ErrorForm, errors: Iterable[type[CaptiondError]]) -> Schema:
    """Return the schema of an error with the codes that it can have."""
    codes: Schema = {"enum": [error.code for error in errors]}
    for name in reversed(form.code):
        codes = {"properties": {name: codes}}
    return {"allOf": [schema, codes]}


def error_headers(errors: Sequence[type[CaptiondError]]) -> Schema:
    headers: Schema = {}
    if any(map(may_pass, errors)):
        headers["Retry-After"] = {**RETRY_AFTER, "required": all(map(may_pass, errors))}
    if Unauthorized in errors:
        headers["WWW-Authenticate"] = AUTHENTICATE
    return headers


def may_pass(error: type[CaptiondError]) -> bool:
    """Return whether a response with this error says when another try may succeed."""
    by_request = issubclass(error, (Unavailable, TooManyRequests))
    return by_request or error.retry_after is not None or error.status == 503


def first_line(error: type[CaptiondError]) -> str:
    """Return what an error means: the first paragraph of its docstring."""
    if error is CaptiondError:
        return "captiond itself has failed; the log says why."
    paragraph = inspect.cleandoc(error.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split())
