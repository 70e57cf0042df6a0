"""The OpenAPI 3.1 document: a pure function from the table of operations.

The document is the same for every deployment of a version, but for the path in `servers`. What else
a deployment can change, such as its keys and limits, is described in words.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from captiond import __version__
from captiond.docstrings import provide_docstrings
from captiond.web.openapi.examples import Examples, code_samples, response_examples
from captiond.web.openapi.introduction import INTRODUCTION
from captiond.web.openapi.request_bodies import request_body
from captiond.web.openapi.response_entries import COMMON_HEADERS, responses
from captiond.web.openapi.schema_set import Schema, SchemaSet
from captiond.web.operation import Operation

OPENAPI = "3.1.1"
SECURITY_SCHEMES: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of the service, see `captiond keys`. Only a service that has keys "
        "asks for one.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in a header of its own.",
    },
}
# The first alternative is a service that has no keys.
WITH_A_KEY: list[Schema] = [{}, {"bearer": []}, {"apiKey": []}]
SCOPE = "A service with keys asks for one with the scope `{scope}`."


@dataclass(frozen=True, slots=True)
class Encoded:
    """The document as bytes, and their entity tag."""

    content: bytes
    etag: str


def encoded_document(
    operations: Sequence[Operation], examples: Examples, root_path: str = ""
) -> Encoded:
    """Return the document of these operations as JSON. It takes a tenth of a second."""
    content = json.dumps(document(operations, examples, root_path), ensure_ascii=False).encode()
    return Encoded(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def document(operations: Sequence[Operation], examples: Examples, root_path: str = "") -> Schema:
    """Return the OpenAPI document of these operations, with these recorded examples.

    `root_path` is the path under which a proxy serves them.
    """
    provide_docstrings()
    schemas = SchemaSet(operations)
    paths: Schema = {}
    for operation in operations:
        item = entry(operation, schemas, examples)
        paths.setdefault(operation.path, {})[operation.method.lower()] = item
    groups = dict.fromkeys(operation.group for operation in operations)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "captiond",
            "version": __version__,
            "summary": "Captions and tags for images.",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root_path or "/", "description": "This service."}],
        "tags": [{"name": group.name, "description": group.description} for group in groups],
        "paths": paths,
        "components": {
            "schemas": schemas.shared,
            "headers": COMMON_HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def entry(operation: Operation, schemas: SchemaSet, examples: Examples) -> Schema:
    """Return the entry of one operation."""
    body = request_body(operation, schemas)
    recorded = examples.get(operation.name, ())
    item: Schema = {
        "operationId": operation.name,
        "tags": [operation.group.name],
        "summary": operation.summary,
        "description": description(operation),
        "parameters": parameters(operation, schemas),
        **({"requestBody": body} if body is not None else {}),
        "responses": responses(operation, schemas),
        "security": [] if operation.scope is None else WITH_A_KEY,
        **image_errors(operation),
        **code_samples(recorded),
    }
    response_examples(item["responses"], recorded)
    return {key: value for key, value in item.items() if value not in ("", [])} | {
        "security": item["security"]
    }


def description(operation: Operation) -> str:
    """Return the text about an operation, with the scope that a key needs."""
    scope = [] if operation.scope is None else [SCOPE.format(scope=operation.scope.value)]
    return "\n\n".join(filter(None, [operation.description, *scope]))


def parameters(operation: Operation, schemas: SchemaSet) -> list[Schema]:
    """Return what an operation takes in its path, its query and its headers."""
    return [
        {
            "name": each.name,
            "in": each.place,
            "required": each.required,
            "description": each.description,
            "schema": schemas.of(each.schema, "validation"),
        }
        for each in operation.parameters
        if each.place != "form"
    ]


def image_errors(operation: Operation) -> Schema:
    """Return the codes that the result of one image can have, where images have results."""
    codes = [error.code for error in operation.image_errors]
    return {"x-image-error-codes": codes} if codes else {}
