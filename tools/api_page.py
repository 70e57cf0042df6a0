"""The reference in docs/api.md: every operation and every type of the OpenAPI document."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from captiond.errors import CaptiondError
from captiond.request_options import RequestOptions
from captiond.web.openapi.document import document
from captiond.web.openapi.examples import Example, curl, stored_examples
from captiond.web.openapi.response_entries import first_line
from captiond.web.operation import ANY_REQUEST, BY_THE_PROTOCOL, Errors
from captiond.web.operations import OPERATIONS
from tools.markdown import code, table

Schema = dict[str, Any]
HOST, FOLDER = "localhost:8000", "tests/data/"
WIDTH = 120  # characters of a line of JSON
COMMON: Errors = (*ANY_REQUEST, *BY_THE_PROTOCOL, CaptiondError)
COMMON_CODES = {error.code for error in COMMON}
OPTIONS_ROW = (
    "options",
    "The options of [captions.md](captions.md) and [tags.md](tags.md), for example `num_beams`.",
    "",
)


def operations_table() -> str:
    """Return the table of all operations."""
    return table(
        ("operation", "what it does"),
        ((f"[{name(each)}](#{anchor(each)})", each.summary) for each in OPERATIONS),
    )


def name(operation: Any) -> str:
    return code(f"{operation.method} {operation.path}")


def anchor(operation: Any) -> str:
    """Return what leads to the heading of an operation."""
    heading = f"{operation.method} {operation.path}".lower()
    return "".join(c for c in heading if c.isalnum() or c in "_- ").replace(" ", "-")


def reference() -> str:
    """Return a section for each group of operations, and one for the types."""
    examples = stored_examples()
    api = document(OPERATIONS, examples)
    parts: list[str] = []
    for tag in api["tags"]:
        parts += [f"## {tag['name']}", tag["description"]]
        for operation in OPERATIONS:
            if operation.group.name == tag["name"]:
                entry = api["paths"][operation.path][operation.method.lower()]
                parts.append(f"### {operation.method} {operation.path}")
                parts += operation_parts(entry, examples.get(operation.name, ()))
    parts += ["## Types", "The fields of JSON bodies. A field that is not required may be absent."]
    for type_name, schema in api["components"]["schemas"].items():
        parts += type_parts(type_name, schema)
    return "\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def operation_parts(entry: Schema, examples: Sequence[Example]) -> Iterator[str]:
    """Yield the paragraphs about one operation."""
    yield entry["summary"]
    yield entry.get("description", "")
    if "parameters" in entry:
        yield table(("parameter", "meaning", "values"), map(parameter_row, entry["parameters"]))
    if "requestBody" in entry:
        yield from body_parts(entry["requestBody"])
    for example in examples:
        yield from example_parts(example)
    yield from response_parts(entry["responses"])
    codes = entry.get("x-image-error-codes")
    if codes:
        yield f"The result of a single image can have the code {listed(codes)}."


def parameter_row(parameter: Schema) -> tuple[str, str, str]:
    required = " Required." if parameter["required"] else ""
    where = {"path": "In the path.", "query": "In the query.", "header": "A header."}
    text = f"{where[parameter['in']]} {parameter['description']}{required}"
    return code(parameter["name"]), text, values_of(parameter["schema"])


def body_parts(body: Schema) -> Iterator[str]:
    """Yield a paragraph and a table for each media type of a request."""
    if body.get("description"):
        yield body["description"]
    for media_type, content in body["content"].items():
        yield f"Body as {code(media_type)}:"
        schema = content["schema"]
        if "properties" not in schema:
            yield f"See {type_of(schema)}."
            continue
        fields = schema["properties"]
        options = RequestOptions.model_fields.keys()
        rows = [
            field_row(field, each, schema) for field, each in fields.items() if field not in options
        ]
        yield table(
            ("field", "meaning", "values"),
            [*rows, *([OPTIONS_ROW] if options <= fields.keys() else [])],
        )


def field_row(field: str, schema: Schema, parent: Schema) -> tuple[str, str, str]:
    required = " Required." if field in parent.get("required", ()) else ""
    return code(field), f"{schema.get('description', '')}{required}", values_of(schema)


def example_parts(example: Example) -> Iterator[str]:
    """Yield a call as a command, and its answer."""
    lines = [f"$ {curl(example, HOST, FOLDER)}"]
    if example.status >= 400 or not example.body:
        lines.append(f"# status {example.status}")
    if example.body:
        is_json = not isinstance(example.body, str)
        lines += [pretty(example.body)] if is_json else example.body.strip().splitlines()
    yield f"{example.title}:"
    yield "```sh\n" + "\n".join(lines) + "\n```"


def pretty(value: Any, indent: str = "") -> str:
    """Return a value as JSON, with what fits into a line on one line."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent + text) <= WIDTH or not isinstance(value, dict | list):
        return text
    deeper = indent + "  "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {pretty(each, deeper)}" for key, each in value.items()]
    else:
        lines = [pretty(each, deeper) for each in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    inside = ",\n".join(deeper + line for line in lines)
    return f"{opening}\n{inside}\n{indent}{closing}"


def response_parts(responses: Mapping[str, Schema]) -> Iterator[str]:
    """Yield the table of responses, with one row for each status.

    The errors that every operation can have stand in a table of their own.
    """
    rows = [
        (status, meaning(each), ", ".join(headers_of(each))) for status, each in responses.items()
    ]
    yield table(("status", "meaning, or the codes of errors", "headers"), rows)


def meaning(response: Schema) -> str:
    """Return what a response is: its description and type, or the codes of its errors."""
    text, _, errors = response["description"].partition("Or an error:")
    if text.startswith("- "):
        text, errors = "", text
    codes = [line.partition("`")[2].partition("`")[0] for line in errors.splitlines() if line]
    own = [each for each in codes if each not in COMMON_CODES]
    parts = [text.strip(), *bodies(response)] if text else []
    return " ".join([*parts, *([listed(own)] if own else [])])


def bodies(response: Schema) -> Iterator[str]:
    """Yield a sentence about each media type of a response."""
    for media_type, content in response.get("content", {}).items():
        item = content.get("x-item-schema")
        schema = content["schema"]
        alternatives = schema.get("anyOf", [schema])
        if item is not None:
            yield f"{code(media_type)}, each item a {type_of(item)}."
        elif media_type != "application/json":
            yield f"{code(media_type)}."
        elif "$ref" in alternatives[0]:
            yield f"{type_of(alternatives[0])}."


def headers_of(response: Schema) -> Iterator[str]:
    """Yield the headers of a response, without those that every response has."""
    return (code(name) for name, header in response["headers"].items() if "$ref" not in header)


def type_parts(type_name: str, schema: Schema) -> Iterator[str]:
    """Yield the paragraphs about one type."""
    yield f"### {type_name}"
    yield schema.get("description", "")
    if "properties" in schema:
        fields = schema["properties"]
        rows = [
            (
                code(field),
                f"{each.get('description', '')}{optional(field, schema)}",
                values_of(each),
            )
            for field, each in fields.items()
        ]
        yield table(("field", "meaning", "values"), rows)
    else:
        yield f"Values: {values_of(schema)}."


def optional(field: str, schema: Schema) -> str:
    return "" if field in schema.get("required", ()) else " Not required."


def values_of(schema: Schema) -> str:
    """Return which values a schema allows, in a few words."""
    parts = [type_of(schema)]
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
        ("maxLength", "length at most"),
    )
    parts += [f"{text} {schema[key]:,}" for key, text in bounds if key in schema]
    return ", ".join(parts)


def type_of(schema: Schema) -> str:
    """Return the type of a schema: a link if it has a name."""
    if "$ref" in schema:
        type_name = schema["$ref"].rpartition("/")[2]
        return f"[{type_name}](#{type_name.lower()})"
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if alternatives and "properties" not in schema:
        return " or ".join(dict.fromkeys(map(type_of, alternatives)))
    if "allOf" in schema:
        return type_of(schema["allOf"][0])
    if "enum" in schema or "const" in schema:
        return ", ".join(code(each) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "file"
    return str(schema.get("type", "any"))


def listed(codes: Sequence[str]) -> str:
    return ", ".join(map(code, codes))


def common_errors() -> str:
    """Return the table of the errors that every operation can have."""
    return table(
        ("status", "code", "meaning"),
        (
            (str(error.status), code(error.code), first_line(error))
            for error in sorted(COMMON, key=lambda error: error.status)
        ),
    )
