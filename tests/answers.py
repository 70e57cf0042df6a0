"""Answers of the service, held against the table of operations and the OpenAPI document."""

import operator
from functools import cache, reduce
from typing import Any

import httpx
import jsonschema_rs
from pydantic import TypeAdapter

from captiond.web.openapi.document import document
from captiond.web.operation import ANY_REQUEST, Operation
from captiond.web.operations import OPERATIONS

BY_NAME = {operation.name: operation for operation in OPERATIONS}
API = document(OPERATIONS, {})
JSON = "application/json"


def path_of(operation: Operation, **values: str) -> str:
    """Return the path of an operation. A parameter without a value has one that nothing has."""
    return operation.path.format(
        **{"task_id": "task_1_ab", "import_id": "import_1_ab", "model": "none", **values}
    )


def code_of(operation: Operation, response: httpx.Response) -> str:
    """Return captiond's code of an error, from where it is in the form of the operation."""
    code: str = reduce(operator.getitem, operation.error_form.code, response.json())
    return code


def check(operation: Operation, response: httpx.Response) -> None:
    """Hold that the table and the document have a response: status, headers, type of the body."""
    check_document(operation, response)
    specs = {
        spec.media_type: spec for spec in operation.responses if spec.status == response.status_code
    }
    if not specs:
        check_error(operation, response)
        return
    media_type = response.headers.get("content-type", "").partition(";")[0]
    spec = specs[media_type] if response.content else next(iter(specs.values()))
    assert all(name in response.headers for name in spec.headers)
    if spec.schema is not None:
        check_type(spec.schema, response)


def check_document(operation: Operation, response: httpx.Response) -> None:
    """Hold that the document has a response: its status, headers, media type and body."""
    status = str(response.status_code)
    entry = responses_of(operation)[status]
    for name, header in entry["headers"].items():
        if name != "X-Request-ID" and header.get("required"):
            assert name in response.headers
    assert "X-Request-ID" in response.headers
    if response.content:
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in entry["content"]
        if media_type == JSON:
            validator(operation.name, status).validate(response.json())


def responses_of(operation: Operation) -> Any:
    return API["paths"][operation.path][operation.method.lower()]["responses"]


@cache
def validator(name: str, status: str) -> Any:
    """Return what checks the JSON of a response against its schema in the document."""
    schema = responses_of(BY_NAME[name])[status]["content"][JSON]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": API["components"]})


def check_error(operation: Operation, response: httpx.Response) -> None:
    """Hold that the table lists an error: its code with its status, and the type of its body."""
    form = operation.error_form
    check_type(form.schema, response)
    code = code_of(operation, response)
    listed = {(error.code, form.status_of(error)) for error in (*operation.errors, *ANY_REQUEST)}
    assert (code, response.status_code) in listed


def check_type(schema: Any, response: httpx.Response) -> None:
    """Hold that a body has the type `schema` and no field that the type does not have."""
    adapter = TypeAdapter(schema)
    assert adapter.validate_json(response.content, strict=True) == response.json()
