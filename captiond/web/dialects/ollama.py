"""Ollama's API: POST /api/generate, /api/chat and /api/show, GET /api/tags, /api/ps, /api/version.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond import __version__
from captiond.messages import ModelInfo
from captiond.web.dialects.answers import answer_of, check_wanted, words
from captiond.web.dialects.dialect_call import (
    Captions,
    DialectCall,
    check_model,
    dialect_call,
    model_names,
    model_of,
    validated,
)
from captiond.web.dialects.names import tagged
from captiond.web.dialects.ollama_shapes import (
    OllamaAnswer,
    OllamaChatAnswer,
    OllamaChatRequest,
    OllamaDetails,
    OllamaDurations,
    OllamaGenerateAnswer,
    OllamaGenerateRequest,
    OllamaLoadedModels,
    OllamaModels,
    OllamaShow,
    OllamaShowRequest,
    OllamaVersion,
    StreamableRequest,
)
from captiond.web.services import services_of
from captiond.web.uploading.forms import FormSpec
from captiond.web.uploading.jsonscanner import EACH
from captiond.web.uploading.uploads import received

GENERATE = FormSpec("images", single=False, places=(("images", EACH),))
CHAT = FormSpec("images", single=False, places=(("messages", EACH, "images", EACH),))
NDJSON = "application/x-ndjson"
NANOSECONDS = 1_000_000_000
# Clients compare it with the version that a feature needs, such as 0.5.0 for JSON schemas.
API_VERSION = "0.12.0"
UNKNOWN_TIME, NEVER = "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
FAMILY = "blip"


async def ollama_generate(request: Request) -> Response:
    """Describe the images of a request."""
    async with dialect_call(request, GENERATE, OllamaGenerateRequest) as call:
        body = call.body
        check_model(call.services, body.model)
        images, prompt = body.images or [], body.prompt or ""
        if not images and not prompt:
            done = finished(body.model, reason_without_work(body))
            return JSONResponse(OllamaGenerateAnswer(response="", **done))
        check_wanted(body.format)
        captions = await call.captions(images, prompt=prompt)
    text = answer_of(captions.findings, body.format)
    done = finished(body.model, "stop", durations(captions, text))
    if not body.streams:
        return JSONResponse(OllamaGenerateAnswer(response=text, **done))
    lines = [
        OllamaGenerateAnswer(response=text, **unfinished(body.model)),
        OllamaGenerateAnswer(response="", **done),
    ]
    return ndjson(lines)


async def ollama_chat(request: Request) -> Response:
    """Describe the images of the last message that has any."""
    async with dialect_call(request, CHAT, OllamaChatRequest) as call:
        body = call.body
        check_model(call.services, body.model)
        if not body.messages:
            return JSONResponse(spoken("", finished(body.model, reason_without_work(body))))
        check_wanted(body.format)
        captions = await chat_captions(call)
    text = answer_of(captions.findings, body.format)
    done = finished(body.model, "stop", durations(captions, text))
    if not body.streams:
        return JSONResponse(spoken(text, done))
    return ndjson([spoken(text, unfinished(body.model)), spoken("", done)])


async def chat_captions(call: DialectCall[OllamaChatRequest]) -> Captions:
    """Caption the images of the last message that has any."""
    messages = [message for message in call.body.messages or [] if message.images]
    if not messages:
        return await call.captions([])
    return await call.captions(messages[-1].images or [], prompt=messages[-1].content or "")


async def ollama_tags(request: Request) -> Response:
    """List the model under each of its names."""
    services = services_of(request)
    model = model_of(services)
    body: OllamaModels = {
        "models": [
            {
                "name": tagged(name),
                "model": tagged(name),
                "modified_at": UNKNOWN_TIME,
                "size": 0,
                "digest": model.fingerprint,
                "details": details(model),
            }
            for name in model_names(services)
        ]
    }
    return JSONResponse(body)


async def ollama_ps(request: Request) -> Response:
    """List the model if it is loaded."""
    services = services_of(request)
    model = services.supervisor.state.model
    body: OllamaLoadedModels = {
        "models": [
            {
                "name": tagged(name),
                "model": tagged(name),
                "size": 0,
                "digest": model.fingerprint,
                "details": details(model),
                "expires_at": NEVER,
                "size_vram": 0,
                "context_length": 0,
            }
            for name in model_names(services)[:1]
        ]
        if model is not None
        else []
    }
    return JSONResponse(body)


async def ollama_show(request: Request) -> Response:
    """Describe the model."""
    services = services_of(request)
    async with received(request, services, GENERATE) as form:  # it needs no model
        asked = validated(OllamaShowRequest, form.document)
    check_model(services, asked.model or asked.name)
    model = model_of(services)
    body: OllamaShow = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(model),
        "model_info": {
            "general.architecture": FAMILY,
            "general.basename": model_names(services)[0],
        },
        "capabilities": ["completion", "vision"],
        "modified_at": UNKNOWN_TIME,
    }
    return JSONResponse(body)


async def ollama_version(_: Request) -> Response:
    """Return the version of Ollama's API that this is."""
    body: OllamaVersion = {"version": API_VERSION, "captiond": __version__}
    return JSONResponse(body)


# ---------------------------------------------------------------- bodies


def reason_without_work(body: StreamableRequest) -> str:
    """Return why a request without images is done at once: Ollama loads or unloads its model.

    captiond does neither.
    """
    return "unload" if body.unloads else "load"


def unfinished(model: str) -> OllamaAnswer:
    """Return what a line of a stream has before the last one."""
    return {"model": model, "created_at": now(), "done": False}


def finished(model: str, reason: str, times: OllamaDurations | None = None) -> OllamaAnswer:
    """Return what the last line of a stream has, or an answer that is not a stream."""
    return {
        "model": model,
        "created_at": now(),
        "done": True,
        "done_reason": reason,
        **(times or OllamaDurations()),
    }


def spoken(text: str, answer: OllamaAnswer) -> OllamaChatAnswer:
    """Return an answer of a chat."""
    return {**answer, "message": {"role": "assistant", "content": text}}


def durations(captions: Captions, text: str) -> OllamaDurations:
    """Return how long an answer took. Reading the prompt is decoding the images here."""
    times = captions.timings
    return {
        "total_duration": nanoseconds(captions.seconds),
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": nanoseconds(times.decode),
        "eval_count": words(text),
        "eval_duration": nanoseconds(times.model),
    }


def nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def now() -> str:
    """Return the time as Go writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def details(model: ModelInfo) -> OllamaDetails:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": FAMILY,
        "families": [FAMILY],
        "parameter_size": "",
        "quantization_level": model.precision.upper(),
    }


def ndjson(lines: Iterable[Mapping[str, Any]]) -> Response:
    """Return a stream. BLIP has the whole caption at once, so all lines are sent together."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return Response(text, media_type=NDJSON)
