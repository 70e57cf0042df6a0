"""Answers of the service, held against the table of operations."""

import operator
from functools import reduce
from typing import Any

import httpx
from pydantic import TypeAdapter

from captiond.web.operation import ANY_REQUEST, Operation
from captiond.web.operations import OPERATIONS

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def path_of(operation: Operation, **values: str) -> str:
    """Return the path of an operation. A parameter without a value has one that nothing has."""
    return operation.path.format(**{"task_id": "task_1_ab", "model": "none", **values})


def code_of(operation: Operation, response: httpx.Response) -> str:
    """Return captiond's code of an error, from where it is in the form of the operation."""
    code: str = reduce(operator.getitem, operation.error_form.code, response.json())
    return code


def check(operation: Operation, response: httpx.Response) -> None:
    """Hold that the table lists a response: its status, its headers and the type of its body."""
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
