"""Answers of the service, held against the table of operations."""

from typing import Any

import httpx
from pydantic import TypeAdapter

from captiond.web.operation import ANY_REQUEST, Operation
from captiond.web.operations import OPERATIONS
from captiond.web.schemas import ErrorResponse

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def check(operation: Operation, response: httpx.Response) -> None:
    """Hold that the table lists a response: its status, its headers and the type of its body."""
    if response.status_code >= 400 and "detail" in response.json():
        check_error(operation, response)
        return
    specs = {spec.status: spec for spec in operation.responses}
    spec = specs[response.status_code]
    assert all(name in response.headers for name in spec.headers)
    assert response.headers["content-type"].startswith(spec.media_type)
    if spec.schema is not None:
        check_type(spec.schema, response)


def check_error(operation: Operation, response: httpx.Response) -> None:
    check_type(ErrorResponse, response)
    listed = {(error.code, error.status) for error in (*operation.errors, *ANY_REQUEST)}
    assert (response.json()["code"], response.status_code) in listed


def check_type(schema: Any, response: httpx.Response) -> None:
    """Hold that a body has the type `schema` and no field that the type does not have."""
    adapter = TypeAdapter(schema)
    assert adapter.validate_json(response.content, strict=True) == response.json()
