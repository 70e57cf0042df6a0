"""The APIs of other services in one web process. The test itself is the supervisor."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from captiond.errors import CaptiondError
from captiond.jobs import Captioned, Outcome, Refused
from captiond.messages import Answer, Ask, State
from captiond.settings.config import LimitSettings
from captiond.settings.dialect_settings import DialectSettings
from captiond.store.engine import Engine
from captiond.tags import Category, Kind, Tag
from captiond.web.dialects.error_forms import error_body, fault_of
from captiond.web.dialects.names import is_served, shown_name, tagged
from captiond.web.operation import DURING_WORK, WHILE_WAITING, Dialect, Operation
from captiond.web.operations import OPERATIONS
from captiond.web.problems import MAX_PROBLEMS
from tests.answers import BY_NAME, check, code_of, path_of
from tests.recorded import base64, data_url, message_of, responses_of
from tests.unit.webprocess import HEALTHY, MODEL, PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
TAGS = (
    Tag("black cat", "cat", Category.ANIMAL, Kind.PHRASE, 2, 11),
    Tag("cat", "cat", Category.ANIMAL, Kind.NOUN, 8, 11),
)
CAT = Captioned("a black cat", ("black cat", "cat"), "m", 4, 3, tag_details=TAGS, score=-0.1)
IMAGE = base64(PNG)
BODIES: dict[str, dict[str, Any]] = {
    "ollama_generate": {"model": "m", "images": [IMAGE]},
    "ollama_chat": {"model": "m", "messages": [{"role": "user", "images": [IMAGE]}]},
    "openai_chat_completions": {"model": "m", "messages": [message_of(PNG)]},
    "openai_responses": responses_of(PNG, "m"),
    "photoprism_caption": {"id": "7", "images": [data_url(PNG)]},
    "photoprism_labels": {"id": "7", "images": [data_url(PNG)]},
}
OF_DIALECTS = [operation for operation in OPERATIONS if operation.dialect is not None]
CHATS = [name for name in BODIES if not name.startswith("photoprism")]


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


async def post(web: WebProcess, name: str, body: Any, **headers: str) -> httpx.Response:
    response = await web.client.post(BY_NAME[name].path, json=body, headers=headers)
    check(BY_NAME[name], response)
    return response


async def answered(
    web: WebProcess, name: str, body: dict[str, Any], *outcomes: Outcome
) -> tuple[httpx.Response, Ask]:
    """Send a request, and answer as the supervisor. Return what the web process asked for."""
    sending = asyncio.create_task(post(web, name, body))
    ask: Ask = await web.message(Ask)
    for number, outcome in enumerate(outcomes or (CAT,)):
        web.channel.send(Answer(ask.ticket + number, outcome))
    return await sending, ask


def changed(body: dict[str, Any], image: object) -> dict[str, Any]:
    """Return a body with another value in place of each image."""
    text = json.dumps(body)
    for sent in (data_url(PNG), IMAGE):
        text = text.replace(json.dumps(sent), json.dumps(image))
    result: dict[str, Any] = json.loads(text)
    return result


# ---------------------------------------------------------------- captions


@pytest.mark.parametrize("name", BODIES)
async def test_an_image_is_described(web: WebProcess, name: str) -> None:
    response, ask = await answered(web, name, {**BODIES[name], "stream": False})
    assert response.status_code == 200
    expected = '"cat"' if name == "photoprism_labels" else "a black cat"
    assert expected in response.text
    assert len(ask.images) == 1
    assert list(web.spool.iterdir()) == []


@pytest.mark.parametrize("name", CHATS)
async def test_several_images_have_a_line_each(web: WebProcess, name: str) -> None:
    body = json.loads(json.dumps(BODIES[name]))
    match body:
        case {"images": images}:
            images *= 2
        case {"messages": [{"images": images}]}:
            images *= 2
        case {"messages": [{"content": parts}]}:
            parts.append(parts[-1])
        case {"input": [*_, {"content": parts}]}:
            parts.append(parts[-1])
    dog = replace(CAT, caption="a dog")
    response, ask = await answered(web, name, {**body, "stream": False}, CAT, dog)
    assert len(ask.images) == 2
    assert r"a black cat\na dog" in response.text


async def test_the_last_message_with_images_counts(web: WebProcess) -> None:
    other = base64(PNG + b"other")
    messages = [
        {"role": "user", "images": [IMAGE, IMAGE]},
        {"role": "user", "content": "and this", "images": [other]},
        {"role": "user", "content": "well?", "images": None},
    ]
    body = {"model": "m", "messages": messages, "stream": False}
    _, ask = await answered(web, "ollama_chat", body)
    (image,) = ask.images
    assert image.size == len(PNG + b"other")


async def test_a_prompt_is_ignored_or_the_beginning(store: Engine, tmp_path: Path) -> None:
    prompts: dict[str, dict[str, Any]] = {
        "ollama_generate": {**BODIES["ollama_generate"], "prompt": " a photo of "},
        "openai_chat_completions": {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "a photo of"}]},
            ],
        },
    }
    prompts["openai_chat_completions"]["messages"][1]["content"].append(
        {"type": "image_url", "image_url": data_url(PNG)}
    )
    for setting in ("ignore", "prefix"):
        dialects = DialectSettings.model_validate({"prompts": setting})
        async with web_process(store, tmp_path, dialects=dialects) as web:
            for name, body in prompts.items():
                _, ask = await answered(web, name, body)
                chosen = ask.options.generation
                assert (chosen.prompt if chosen else None) == (
                    "a photo of" if setting == "prefix" else None
                )
            long = {**prompts["ollama_generate"], "prompt": "x" * 201}
            if setting == "prefix":
                assert (await post(web, "ollama_generate", long)).status_code == 400


async def test_several_choices_are_alternatives(web: WebProcess) -> None:
    body = {**BODIES["openai_chat_completions"], "n": 3}
    _, ask = await answered(web, "openai_chat_completions", body)
    assert ask.options.generation is not None
    assert ask.options.generation.num_captions == 3


@pytest.mark.parametrize("name", ["photoprism_caption", "photoprism_labels"])
async def test_an_empty_result_is_an_error_there(web: WebProcess, name: str) -> None:
    nothing = Captioned("", (), "m", 4, 3)
    response, _ = await answered(web, name, BODIES[name], nothing)
    assert (response.status_code, response.json()["error_code"]) == (400, "empty_result")


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("name", BODIES)
async def test_errors_of_an_image_have_the_form_of_the_dialect(web: WebProcess, name: str) -> None:
    errors: set[type[CaptiondError]] = {*DURING_WORK, *WHILE_WAITING}
    for error in sorted(errors, key=lambda error: error.code):
        refused = Refused(str(error.__doc__), error.code, error.status)
        response, _ = await answered(web, name, BODIES[name], refused)
        assert code_of(BY_NAME[name], response) == error.code
        assert response.status_code == (400 if error.status == 422 else error.status)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        ("https://example.com/a.jpg", "url_refused", "URLs are never fetched; send the bytes"),
        ("data:text/plain;base64,AAAA", "not_an_image", "text/plain"),
        ("AAAA!AAA" * 1000, "not_base64", "character 4"),
        ("", "empty_image", "empty"),
        (base64(b"no image"), "not_an_image", ""),
        (3, "invalid_request", "image"),
        ({"position": 0, "label": "x"}, "invalid_request", ""),
    ],
    ids=["url", "data url", "not base64", "empty", "no image", "number", "object"],
)
async def test_images_that_are_none(
    web: WebProcess, name: str, image: object, code: str, words: str
) -> None:
    response = await post(web, name, changed(BODIES[name], image))
    assert (response.status_code, code_of(BY_NAME[name], response)) == (400, code)
    assert words in response.text
    place = "image_url" if name.startswith("openai") else "images[0]"
    assert place in response.text or not isinstance(image, str)
    assert list(web.spool.iterdir()) == []


@pytest.mark.parametrize("name", BODIES)
async def test_a_url_of_photoprism_or_no_image(web: WebProcess, name: str) -> None:
    model = {"model": "m", "prompt": "Hello", "messages": [{"role": "user", "content": "Hi"}]}
    response = await post(web, name, {**model, "input": "Hello"})
    assert code_of(BY_NAME[name], response) == "no_image"
    if name.startswith("photoprism"):
        response = await post(web, name, {"url": "https://example.com/a.jpg"})
        assert code_of(BY_NAME[name], response) == "url_refused"


@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_are_wrong(store: Engine, tmp_path: Path, name: str) -> None:
    limits = LimitSettings(files=1, body_bytes=10_000, file_bytes=1000)
    operation = BY_NAME[name]
    async with web_process(store, tmp_path, limits=limits) as web:

        async def code(content: bytes) -> tuple[int, str]:
            response = await web.client.post(operation.path, content=content)
            check(operation, response)
            return response.status_code, code_of(operation, response)

        assert await code(b"") == (400, "malformed_body")
        assert await code(b"[]") == (400, "malformed_body")
        assert await code(b'{"model": ') == (400, "malformed_body")
        assert await code(b'{"model": 3, "images": 4}') == (400, "invalid_request")
        assert await code(b" " * 5_000_000) == (413, "body_too_large")
        assert await code(b'{"tools": [' + b"1," * 20_000 + b"1]}") == (413, "body_too_large")
        large = json.dumps(changed(BODIES[name], base64(PNG + bytes(2000))))
        assert await code(large.encode()) == (413, "file_too_large")
        assert list(web.spool.iterdir()) == []


@pytest.mark.parametrize("name", CHATS)
async def test_a_model_that_is_not_ours(web: WebProcess, name: str) -> None:
    response = await post(web, name, {**BODIES[name], "model": "llava:13b"})
    assert (response.status_code, code_of(BY_NAME[name], response)) == (404, "model_not_found")
    assert "'llava:13b'" in response.text


@pytest.mark.parametrize("name", CHATS)
async def test_a_schema_that_cannot_be_filled(web: WebProcess, name: str) -> None:
    schema = {"type": "tree"}
    format_ = {"type": "json_schema", "json_schema": {"schema": schema}}
    asked = {"format": schema, "response_format": format_}
    asked["text"] = {"format": {"type": "json_schema", "schema": schema}}
    response = await post(web, name, {**BODIES[name], **asked})
    assert (response.status_code, code_of(BY_NAME[name], response)) == (400, "schema_refused")


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("state", [State(), State(draining=True)], ids=["starting", "draining"])
async def test_a_service_that_is_not_ready(web: WebProcess, name: str, state: State) -> None:
    await web.set_state(state)
    response = await post(web, name, BODIES[name])
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize("operation", OF_DIALECTS, ids=lambda operation: operation.name)
async def test_errors_before_the_operation_have_its_form(
    web: WebProcess, operation: Operation
) -> None:
    """Another method, a page of another site, a host that is not ours, no key."""
    path = path_of(operation)
    wrong = await web.client.request("PATCH", path)
    assert (wrong.status_code, code_of(operation, wrong)) == (405, "method_not_allowed")
    foreign = await web.client.post(
        path, json={}, headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    )
    assert (foreign.status_code, code_of(operation, foreign)) == (403, "origin_not_allowed")
    form = await web.client.post(
        path,
        content=b'{"model": "m"}',
        headers={"Origin": "null", "Content-Type": "text/plain"},
    )
    assert (form.status_code, code_of(operation, form)) == (403, "origin_not_allowed")
    host = await web.client.get(path, headers={"Host": "evil.example"})
    assert (host.status_code, code_of(operation, host)) == (421, "host_not_allowed")


@pytest.mark.parametrize(
    ("path", "form"), [("/api/embed", "error"), ("/v1/embeddings", "error"), ("/nowhere", "detail")]
)
async def test_unknown_paths(web: WebProcess, path: str, form: str) -> None:
    response = await web.client.post(path, json={})
    assert response.status_code == 404
    assert form in response.json()
    assert "not_found" in response.text


async def test_of_thousands_of_problems_the_first_are_named(web: WebProcess) -> None:
    response = await post(web, "ollama_chat", {"messages": [1] * 5000})
    assert code_of(BY_NAME["ollama_chat"], response) == "invalid_request"
    assert response.text.count("messages[") == MAX_PROBLEMS


@pytest.mark.parametrize("path", ["/api/v1/vision/x", "/api/x", "/v1/x"])
def test_the_fault_of_a_list_of_problems(path: str) -> None:
    problems = [{"loc": ["body", "messages", 0, "content"], "msg": "is wrong"}]
    body = error_body(path)
    assert body is not None
    text = json.dumps(body(fault_of(422, "invalid_request", problems, "id")))
    assert "messages[0].content: is wrong" in text


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("dialect", Dialect)
async def test_a_dialect_can_be_switched_off(
    store: Engine, tmp_path: Path, dialect: Dialect
) -> None:
    settings = DialectSettings.model_validate({dialect.value: False})
    async with web_process(store, tmp_path, dialects=settings) as web:
        document = (await web.client.get("/openapi.json")).json()
        for operation in OF_DIALECTS:
            path = path_of(operation, model="m")
            response = await web.client.request(operation.method, path)
            unknown = response.status_code in {404, 405}
            assert unknown == (operation.dialect is dialect), operation.name
            assert (operation.path in document["paths"]) != unknown


async def test_further_names(store: Engine, tmp_path: Path) -> None:
    settings = DialectSettings(models=("llava", "gpt-4o"))
    async with web_process(store, tmp_path, dialects=settings) as web:
        tags = (await web.client.get("/api/tags")).json()["models"]
        names = ["m", "captiond", "llava", "gpt-4o"]
        assert [model["name"] for model in tags] == [f"{name}:latest" for name in names]
        models = (await web.client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in models] == names
        body = {**BODIES["ollama_generate"], "model": "llava:latest", "stream": False}
        response, _ = await answered(web, "ollama_generate", body)
        assert response.json()["model"] == "llava:latest"


async def test_lists_while_no_model_is_loaded(web: WebProcess) -> None:
    await web.set_state(State())
    assert (await web.client.get("/api/ps")).json() == {"models": []}
    for path in ("/api/tags", "/v1/models"):
        response = await web.client.get(path)
        check(next(each for each in OPERATIONS if each.path == path), response)
        assert "Salesforce/blip-image-captioning-base" in response.text
    await web.set_state(replace(HEALTHY, model=replace(MODEL, name="/models/my blip/")))
    assert (await web.client.get("/v1/models")).json()["data"][0]["id"] == "my blip"


async def test_old_clients_show_by_name(web: WebProcess) -> None:
    for body in ({"name": "m"}, {"model": "m:latest"}):
        assert (await post(web, "ollama_show", body)).status_code == 200
    assert (await post(web, "ollama_show", {})).status_code == 404


def test_names() -> None:
    own = "Salesforce/blip-image-captioning-base"
    for name in (own, own.upper(), f"{own}:latest", "blip-image-captioning-base", "captiond"):
        assert is_served(name, own)
    for name in ("", "llava", "blip", "Salesforce/"):
        assert not is_served(name, own)
        assert is_served(name, own, ("*",))
    assert shown_name("/data/models/blip/") == "blip"
    assert tagged("a/b") == "a/b:latest"
    assert tagged("a/b:7b") == "a/b:7b"
