"""The APIs of other services, with the clients that people use for them, against a real service."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from pydantic import BaseModel

from tests.answers import BY_NAME, check
from tests.patience import PATIENCE
from tests.recorded import TAGS, data_url, message_of, recorded, responses_of
from tests.service import DATA, Service, running_without_model

SCENES: dict[str, str] = json.loads((DATA / "scenes.json").read_text())
CAT = (DATA / "black_cat.jpg").read_bytes()
MODEL = "captiond/scenes"


class Described(BaseModel):
    """What a program may want to know about an image."""

    caption: str
    tags: list[str]


def images() -> list[tuple[str, bytes, str]]:
    return [(name, (DATA / name).read_bytes(), caption) for name, caption in SCENES.items()]


@pytest.fixture(scope="module")
def ollama_client(service: Service) -> Iterator[ollama.Client]:
    with ollama.Client(service.url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def openai_client(service: Service) -> Iterator[openai.OpenAI]:
    url = f"{service.url}/v1"
    with openai.OpenAI(base_url=url, api_key="any", timeout=PATIENCE, max_retries=0) as client:
        yield client


# ---------------------------------------------------------------- ollama


@pytest.mark.parametrize(("name", "image", "caption"), images(), ids=SCENES)
def test_ollama_client(ollama_client: ollama.Client, name: str, image: bytes, caption: str) -> None:
    """Streaming and not, with and without a schema."""
    asked: dict[str, Any] = {"model": MODEL, "prompt": "Describe this image.", "images": [image]}
    assert ollama_client.generate(**asked).response == caption
    parts = list(ollama_client.generate(**asked, stream=True))
    assert "".join(part.response or "" for part in parts) == caption
    assert [part.done for part in parts] == [False, True]
    schema = Described.model_json_schema()
    answer = ollama_client.generate(**asked, format=schema).response or ""
    assert Described.model_validate_json(answer).caption == caption
    text = "".join(
        part.response or "" for part in ollama_client.generate(**asked, format=schema, stream=True)
    )
    assert Described.model_validate_json(text).caption == caption
    message = {"role": "user", "content": "Describe", "images": [DATA / name]}
    chat = ollama_client.chat(MODEL, [message])
    assert chat.message.content == caption
    assert chat.done_reason == "stop"
    assert (chat.total_duration or 0) > 0
    streamed = ollama_client.chat(MODEL, [message], stream=True)
    assert "".join(part.message.content or "" for part in streamed) == caption
    free = ollama_client.chat(MODEL, [message], format="json").message.content or ""
    assert json.loads(free)["caption"] == caption


async def ollama_async(url: str) -> tuple[str | None, str]:
    message = {"role": "user", "content": "Describe", "images": [CAT]}
    async with ollama.AsyncClient(url, timeout=PATIENCE) as client:
        answer = await client.chat(MODEL, [message])
        parts = [part async for part in await client.generate(MODEL, images=[CAT], stream=True)]
    return answer.message.content, "".join(part.response or "" for part in parts)


def test_ollama_async_client(service: Service) -> None:
    assert asyncio.run(ollama_async(service.url)) == ("a black cat", "a black cat")


def test_ollama_lists(ollama_client: ollama.Client) -> None:
    models = [model.model for model in ollama_client.list().models]
    assert models == ["captiond/scenes:latest", "captiond:latest"]
    assert [model.name for model in ollama_client.ps().models] == ["captiond/scenes:latest"]
    shown = ollama_client.show("captiond/scenes:latest")
    assert shown.capabilities == ["completion", "vision"]


def test_ollama_loads_and_unloads_nothing(ollama_client: ollama.Client) -> None:
    assert ollama_client.generate(MODEL).done_reason == "load"
    assert ollama_client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert ollama_client.chat(MODEL, []).done_reason == "load"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ({"model": "llava", "images": [CAT]}, 404, "model 'llava' not found"),
        ({"model": MODEL, "prompt": "Hello"}, 400, "no image"),
        ({"model": MODEL, "images": [b"nothing"]}, 400, "images[0]"),
        ({"model": MODEL, "images": [CAT], "format": {"type": "tree"}}, 400, "tree"),
    ],
)
def test_ollama_errors(
    ollama_client: ollama.Client, arguments: dict[str, Any], status: int, words: str
) -> None:
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError) as raised:
            list(ollama_client.generate(**arguments, stream=stream))
        assert raised.value.status_code == status
        assert words in raised.value.error


# ---------------------------------------------------------------- openai


@pytest.mark.parametrize(("name", "image", "caption"), images(), ids=SCENES)
def test_openai_client(openai_client: openai.OpenAI, name: str, image: bytes, caption: str) -> None:
    """Streaming and not, with and without a schema, by both calls."""
    chat: Any = openai_client.chat.completions
    asked: dict[str, Any] = {"model": MODEL, "messages": [message_of(image)]}
    completion = chat.create(**asked)
    assert completion.choices[0].message.content == caption
    assert completion.usage.completion_tokens == len(caption.split())
    chunks = list(chat.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == caption
    assert chunks[-1].usage.completion_tokens == len(caption.split())
    parsed = chat.parse(**asked, response_format=Described).choices[0].message.parsed
    assert parsed.caption == caption
    free = chat.create(**asked, response_format={"type": "json_object"})
    assert json.loads(free.choices[0].message.content)["caption"] == caption
    with chat.stream(**asked, response_format=Described) as stream:
        assert stream.until_done().get_final_completion().choices[0].message.parsed == parsed
    responses: Any = openai_client.responses
    body = responses_of(image, MODEL)
    assert responses.create(**body).output_text == caption
    with responses.stream(**body) as stream:
        assert stream.get_final_response().output_text == caption
    assert responses.parse(**body, text_format=Described).output_parsed == parsed
    with responses.stream(**body, text_format=Described) as stream:
        assert stream.get_final_response().output_parsed == parsed
    assert name in SCENES


async def openai_async(url: str) -> tuple[str | None, str]:
    arguments: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "any", "timeout": PATIENCE}
    async with openai.AsyncOpenAI(**arguments) as client:
        chat: Any = client.chat.completions
        completion = await chat.create(model=MODEL, messages=[message_of(CAT)])
        response = await client.responses.create(**responses_of(CAT, MODEL))
    return completion.choices[0].message.content, response.output_text


def test_openai_async_client(service: Service) -> None:
    assert asyncio.run(openai_async(service.url)) == ("a black cat", "a black cat")


def test_openai_lists(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == [MODEL, "captiond"]
    assert openai_client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("gpt-5")


def test_openai_gives_several_captions(openai_client: openai.OpenAI) -> None:
    chat: Any = openai_client.chat.completions
    choices = chat.create(model=MODEL, messages=[message_of(CAT)], n=3).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.message.content for choice in choices}) == 3


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        (
            {"model": "gpt-5", "messages": [message_of(CAT)]},
            openai.NotFoundError,
            "model_not_found",
        ),
        ({"model": MODEL, "messages": []}, openai.BadRequestError, "no_image"),
        ({"model": MODEL, "messages": [message_of(b"x")]}, openai.BadRequestError, "not_an_image"),
        (
            {"model": MODEL, "messages": [message_of(CAT)], "n": 6},
            openai.BadRequestError,
            "invalid_request",
        ),
    ],
)
def test_openai_errors(
    openai_client: openai.OpenAI, body: dict[str, Any], error: type[Exception], code: str
) -> None:
    chat: Any = openai_client.chat.completions
    for stream in (False, True):
        with pytest.raises(error) as raised:
            chat.create(**body, stream=stream)
        assert getattr(raised.value, "code", None) == code


def test_a_bearer_is_the_key(tmp_path: Path) -> None:
    secret = "cpd_" + "a" * 43
    environ = {"CAPTIOND_KEYS__NAMED__WEBUI": secret}
    with running_without_model(tmp_path / "data", **environ) as service:
        for key, works in ((secret, True), ("wrong", False)):
            url = f"{service.url}/v1"
            with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
                if works:
                    assert MODEL in [model.id for model in client.models.list()]
                else:
                    with pytest.raises(openai.AuthenticationError) as raised:
                        client.models.list()
                    assert raised.value.code == "unauthorized"


# ---------------------------------------------------------------- recorded requests


@pytest.mark.parametrize("program", recorded(b""))
def test_requests_of_other_programs(service: Service, program: str) -> None:
    request = recorded(CAT)[program]
    response = service.client.post(request.path, json=request.body)
    assert response.status_code == 200, response.text
    if "tags" in str(request.body.get("format", request.body.get("response_format", ""))):
        assert request.read(response.text) == ["black cat", "cat"]
    elif "labels" in program:
        assert request.read(response.text) == ["cat"]
    else:
        assert request.read(response.text) == "a black cat"
    if response.headers["content-type"] == "application/json":
        operation = next(each for each in BY_NAME.values() if each.path == request.path)
        check(operation, response)


def test_photoprism_reads_these_fields(service: Service) -> None:
    body = {"id": "7", "images": [data_url(CAT)]}
    caption = service.client.post("/api/v1/vision/caption", json=body).json()
    assert (caption["id"], caption["code"]) == ("7", 200)
    assert caption["model"]["name"] == MODEL
    assert caption["result"]["caption"]["source"] == "image"
    assert 0 < caption["result"]["caption"]["confidence"] <= 1
    (label,) = service.client.post("/api/v1/vision/labels", json=body).json()["result"]["labels"]
    assert (label["name"], label["source"], label["priority"]) == ("cat", "image", 5)
    assert (label["topicality"], label["categories"]) == (1, ["animal"])


def test_plain_curl_says_no_content_type(service: Service) -> None:
    """`curl -d` sends JSON as a form, as the examples of Ollama do."""
    image = base64.b64encode(CAT).decode()
    body = json.dumps({"model": "captiond", "images": [image], "format": TAGS, "stream": False})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = service.client.post("/api/generate", content=body, headers=kind).json()
    assert json.loads(answer["response"]) == {"tags": ["black cat", "cat"]}
