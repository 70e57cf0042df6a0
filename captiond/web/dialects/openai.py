"""OpenAI's API: POST /v1/chat/completions and /v1/responses, GET /v1/models.

https://platform.openai.com/docs/api-reference
"""

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.web.dialects.answers import alternatives, answer_of, check_wanted, words
from captiond.web.dialects.dialect_call import check_model, dialect_call, model_names
from captiond.web.dialects.openai_shapes import (
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatDelta,
    ChatUsage,
    ChunkChoice,
    OpenAIMessage,
    OpenAIModel,
    OpenAIModels,
    OutputMessage,
    OutputText,
    ResponseEvent,
    ResponseObject,
    ResponsesRequest,
    ResponseUsage,
    asked_images,
)
from captiond.web.services import services_of
from captiond.web.uploading.forms import FormSpec
from captiond.web.uploading.jsonscanner import EACH, Place

CONTENT: Place = (EACH, "content", EACH, "image_url")  # a text, or an object with a URL in it
CHAT = FormSpec(
    "messages",
    single=False,
    places=(("messages", *CONTENT), ("messages", *CONTENT, "url")),
)
RESPONSES = FormSpec(
    "input", single=False, places=(("input", *CONTENT), ("input", *CONTENT, "url"))
)
EVENTS = "text/event-stream"
DONE = "[DONE]"  # the data of the last event of a stream of chat completions
UNKNOWN_TIME = 0


async def openai_chat_completions(request: Request) -> Response:
    """Describe the images of the last message that has any."""
    async with dialect_call(request, CHAT, ChatCompletionRequest) as call:
        body = call.body
        check_model(call.services, body.model)
        wanted = body.response_format.wanted if body.response_format else None
        check_wanted(wanted)
        number = body.n or 1
        asked = asked_images(body.messages, "messages")
        captions = await call.captions(asked["images"], prompt=asked["prompt"], number=number)
    texts = [answer_of(image, wanted) for image in alternatives(captions.findings, number)]
    completion = chat_completion(body.model, texts)
    if not body.stream:
        return JSONResponse(completion)
    with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return events([*map(data_event, chunks(completion, with_usage=with_usage)), event_text(DONE)])


async def openai_responses(request: Request) -> Response:
    """Describe the images of the last message that has any."""
    async with dialect_call(request, RESPONSES, ResponsesRequest) as call:
        body = call.body
        check_model(call.services, body.model)
        wanted = body.text.format.wanted if body.text and body.text.format else None
        check_wanted(wanted)
        messages: list[OpenAIMessage] = body.input if isinstance(body.input, list) else []
        asked = asked_images(messages, "input")
        captions = await call.captions(asked["images"], prompt=asked["prompt"])
    response = response_object(body.model, answer_of(captions.findings, wanted))
    if not body.stream:
        return JSONResponse(response)
    return events(map(named_event, response_events(response)))


async def openai_models(request: Request) -> Response:
    """List the model under each of its names."""
    names = model_names(services_of(request))
    body: OpenAIModels = {"object": "list", "data": list(map(model_entry, names))}
    return JSONResponse(body)


async def openai_model(request: Request) -> Response:
    """Return a model by one of its names."""
    name: str = request.path_params["model"]
    check_model(services_of(request), name)
    return JSONResponse(model_entry(name))


def model_entry(name: str) -> OpenAIModel:
    return {"id": name, "object": "model", "created": UNKNOWN_TIME, "owned_by": "captiond"}


# ---------------------------------------------------------------- chat completions


def chat_completion(model: str, texts: list[str]) -> ChatCompletion:
    """Return the answer with these texts, each of which is a choice."""
    choices: list[ChatChoice] = [
        {
            "index": at,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
        for at, text in enumerate(texts)
    ]
    number = sum(map(words, texts))
    usage: ChatUsage = {
        "prompt_tokens": 0,
        "completion_tokens": number,
        "total_tokens": number,
    }
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage,
    }


def chunks(completion: ChatCompletion, *, with_usage: bool) -> Iterable[ChatCompletionChunk]:
    """Yield the chunks of a stream: for each choice its role, its text and its end."""

    def chunk(choices: list[ChunkChoice]) -> ChatCompletionChunk:
        made: ChatCompletionChunk = {
            "id": completion["id"],
            "object": "chat.completion.chunk",
            "created": completion["created"],
            "model": completion["model"],
            "choices": choices,
        }
        return {**made, "usage": None} if with_usage else made

    for choice in completion["choices"]:
        message = choice["message"]
        first: ChatDelta = {"role": message["role"], "content": ""}
        for delta, reason in (
            (first, None),
            (ChatDelta(content=message["content"]), None),
            (ChatDelta(), choice["finish_reason"]),
        ):
            at = choice["index"]
            yield chunk([{"index": at, "delta": delta, "logprobs": None, "finish_reason": reason}])
    if with_usage:
        yield {**chunk([]), "usage": completion["usage"]}


# ---------------------------------------------------------------- responses


def response_object(model: str, text: str) -> ResponseObject:
    """Return the answer with this text."""
    number = words(text)
    usage: ResponseUsage = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": number,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": number,
    }
    message: OutputMessage = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [output_text(text)],
    }
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": model,
        "output": [message],
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "metadata": {},
        "usage": usage,
    }


def output_text(text: str) -> OutputText:
    return {"type": "output_text", "text": text, "annotations": []}


def response_events(response: ResponseObject) -> Iterable[ResponseEvent]:
    """Yield the events of a stream, which build the answer up."""
    (message,) = response["output"]
    (part,) = message["content"]
    begun: ResponseObject = {**response, "status": "in_progress", "output": [], "usage": None}
    empty: OutputMessage = {**message, "status": "in_progress", "content": []}
    place = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    text = part["text"]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": empty}),
        ("response.content_part.added", {**place, "part": output_text("")}),
        ("response.output_text.delta", {**place, "delta": text, "logprobs": []}),
        ("response.output_text.done", {**place, "text": text, "logprobs": []}),
        ("response.content_part.done", {**place, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        ("response.completed", {"response": response}),
    ]
    for number, (kind, fields) in enumerate(steps):
        event: ResponseEvent = {"type": kind, "sequence_number": number}
        event.update(fields)  # type: ignore[typeddict-item]  # its fields depend on the type
        yield event


# ---------------------------------------------------------------- streams


def data_event(data: Mapping[str, Any]) -> str:
    """Return a server-sent event without a name."""
    return event_text(json.dumps(data, ensure_ascii=False))


def event_text(data: str) -> str:
    return f"data: {data}\n\n"


def named_event(event: ResponseEvent) -> str:
    """Return a server-sent event that is named by its type."""
    return f"event: {event['type']}\n{data_event(event)}"


def events(texts: Iterable[str]) -> Response:
    """Return a stream. BLIP has the whole caption at once, so all events are sent together."""
    return Response("".join(texts), media_type=EVENTS, headers={"Cache-Control": "no-cache"})
