"""The OpenAPI document has everything that the table of operations has, and is valid."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.openapi import from_dict

from captiond.errors import CaptiondError
from captiond.request_options import RequestOptions
from captiond.store.engine import Engine
from captiond.web.openapi.document import document, encoded_document
from captiond.web.openapi.examples import curl, stored_examples, with_files
from captiond.web.openapi.field_texts import FIELDS
from captiond.web.openapi.response_entries import errors_of
from captiond.web.operation import ANY_REQUEST, BY_THE_PROTOCOL, Operation
from captiond.web.operations import OPERATIONS
from tests.patience import PATIENCE
from tests.unit.webprocess import web_process
from tools.api_calls import SILENT

API = document(OPERATIONS, stored_examples())
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)


def entry_of(operation: Operation) -> Any:
    return API["paths"][operation.path][operation.method.lower()]


def test_the_document_is_valid() -> None:
    from_dict(API).validate()


def test_it_has_every_operation_and_no_other() -> None:
    assert {(path, method) for path, item in API["paths"].items() for method in item} == {
        (operation.path, operation.method.lower()) for operation in OPERATIONS
    }


@each_operation
def test_every_parameter_and_field_is_described(operation: Operation) -> None:
    entry = entry_of(operation)
    described = {each["name"] for each in entry.get("parameters", ()) if each["description"]}
    for content in entry.get("requestBody", {"content": {}})["content"].values():
        properties = content["schema"].get("properties", {})
        described |= {name for name, each in properties.items() if each.get("description")}
    expected = {each.name for each in operation.parameters}
    if operation.form is not None and not getattr(operation.form, "places", ()):
        expected |= {operation.form.field, *RequestOptions.model_fields}
    assert expected - described == set()


@each_operation
def test_every_error_code_has_its_status(operation: Operation) -> None:
    form = operation.error_form
    errors: set[type[CaptiondError]] = {
        *operation.errors,
        *ANY_REQUEST,
        *BY_THE_PROTOCOL,
        CaptiondError,
    }
    for error in errors:
        status = error.status if error in BY_THE_PROTOCOL else form.status_of(error)
        response = entry_of(operation)["responses"][str(status)]
        assert f"`{error.code}`" in response["description"]
        assert error.code in codes_in(response["content"]["application/json"]["schema"])
    assert {error.code for each in errors_of(operation).values() for error in each} >= {
        error.code for error in errors
    }


def codes_in(schema: Any) -> Iterator[str]:
    """Yield all values of enumerations in a schema."""
    if isinstance(schema, dict):
        yield from schema.get("enum", ())
        for each in schema.values():
            yield from codes_in(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from codes_in(each)


@each_operation
def test_every_response_has_its_headers(operation: Operation) -> None:
    responses = entry_of(operation)["responses"]
    for response in responses.values():
        assert "X-Request-ID" in response["headers"]
    for spec in operation.responses:
        assert spec.headers.keys() <= responses[str(spec.status)]["headers"].keys()
    if operation.scope is not None:
        assert "WWW-Authenticate" in responses["401"]["headers"]
        assert responses["429"]["headers"]["Retry-After"]["required"]


@each_operation
def test_an_operation_needs_a_key_if_it_has_a_scope(operation: Operation) -> None:
    security = entry_of(operation)["security"]
    assert bool(security) == (operation.scope is not None)
    if operation.scope is not None:
        assert f"`{operation.scope.value}`" in entry_of(operation)["description"]
        names = {name for way in security for name in way}
        assert names == API["components"]["securitySchemes"].keys()


def test_every_field_of_a_body_is_described() -> None:
    """By the type, or in `field_texts.py`. Those of dialects are what other services define."""
    own = document([each for each in OPERATIONS if each.dialect is None], {})
    missing = [
        f"{name}.{field}"
        for name, schema in own["components"]["schemas"].items()
        for field, each in schema.get("properties", {}).items()
        if not each.get("description")
    ]
    assert missing == []


def test_fields_of_dialects_are_not_described_as_ours() -> None:
    """`done` is a number in the progress of a task, and true or false in Ollama's answers."""
    own = document([each for each in OPERATIONS if each.dialect is None], {})
    wrong = [
        f"{name}.{field}"
        for name, schema in API["components"]["schemas"].items()
        if name not in own["components"]["schemas"]
        for field, each in schema.get("properties", {}).items()
        if each.get("description") in FIELDS.values()
    ]
    assert wrong == []


def test_every_named_schema_is_used_and_described() -> None:
    schemas = API["components"]["schemas"]
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(API)))
    assert schemas.keys() - used == set()
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def test_every_text_about_a_field_is_used() -> None:
    schemas = API["components"]["schemas"]
    fields = {field for each in schemas.values() for field in each.get("properties", ())}
    unused = {
        name
        for name in FIELDS
        if name not in fields
        and name.partition(".")[2]
        not in schemas.get(name.partition(".")[0], {}).get("properties", ())
    }
    assert unused == set()


# ---------------------------------------------------------------- examples


@each_operation
def test_every_operation_has_an_example(operation: Operation) -> None:
    """`tools/api_calls.py` has the calls; `python -m tools.docs --examples` records them."""
    examples = stored_examples().get(operation.name, [])
    assert bool(examples) != (operation.name in SILENT)
    shown = entry_of(operation).get("x-codeSamples", [])
    assert [each["source"] for each in shown] == [curl(example) for example in examples]


@each_operation
def test_an_example_is_as_the_document_says(operation: Operation) -> None:
    for example in stored_examples().get(operation.name, []):
        response = entry_of(operation)["responses"][str(example.status)]
        if example.media_type == "application/json":
            schema = response["content"][example.media_type]["schema"]
            validator(schema).validate(example.body)
        elif example.media_type:
            assert response["content"][example.media_type]
            assert isinstance(example.body, str)
        assert example.answer_headers is not None
        assert example.answer_headers.keys() <= response["headers"].keys()


def validator(schema: Any) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "components": API["components"]})


@pytest.mark.parametrize(
    ("marker", "beginning"), [("data", "data:image/png;base64,iVBOR"), ("base64", "iVBOR")]
)
def test_a_command_has_the_file_that_json_names(
    tmp_path: Path, marker: str, beginning: str
) -> None:
    """A shell puts the same text into the body as the tool that records the examples."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    body = {"images": [f"@{marker}:a.png"], "prompt": "a \"$5\" `cat` \\ 'x'"}
    example = stored_examples()["caption"][0]
    words = curl(type(example)("", "POST", "/", 200, "", None, json=body))
    printing = words.replace("curl ", "printf '%s\\n' ", 1)
    printed = subprocess.run(
        ["bash", "-c", printing],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout.splitlines()
    sent = json.loads(printed[printed.index("-d") + 1])
    assert sent == with_files(body, tmp_path)
    assert sent["images"][0].startswith(beginning)
    assert sent["prompt"] == body["prompt"]


# ---------------------------------------------------------------- served and printed


def test_it_is_the_same_each_time() -> None:
    assert encoded_document(OPERATIONS, {}) == encoded_document(OPERATIONS, {})


@pytest.mark.anyio
async def test_it_is_served_with_an_entity_tag(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path) as web:
        first = await web.client.get("/openapi.json")
        assert (first.status_code, first.json()) == (200, json.loads(json.dumps(API)))
        known = {"If-None-Match": first.headers["etag"]}
        second = await web.client.get("/openapi.json", headers=known)
        assert (second.status_code, second.content) == (304, b"")
        other = await web.client.get("/openapi.json", headers={"If-None-Match": '"x"'})
        assert other.status_code == 200


def test_the_command_prints_it(tmp_path: Path) -> None:
    """It needs no settings, so a wrong one does not matter, and it does not load torch."""
    program = (
        "import sys; sys.argv = ['captiond', 'openapi'];"
        "from captiond.cli.main import app\n"
        "try: app()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "CAPTIOND_SERVER__PORT": "wrong"},
        timeout=PATIENCE,
    )
    assert json.loads(printed.stdout) == json.loads(json.dumps(API))
