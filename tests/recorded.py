"""Requests as other programs send them to the APIs of other services.

Each is written after the source of its program, which the comment above it names, and answers with
the request's path, its JSON, and what the program reads from the answer.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Reader = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request of a program, and how the program reads the answer."""

    path: str
    body: dict[str, Any]
    read: Reader


def base64(image: bytes) -> str:
    return b64encode(image).decode()


def data_url(image: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64(image)}"


def last_line(text: str) -> Any:
    """Return the last object of a stream, as a decoder that keeps the newest one does."""
    return json.loads(text.strip().rpartition("\n")[2])


def joined(text: str) -> str:
    """Return the text of a stream of generate, as ollama-js iterates over it."""
    return "".join(json.loads(line)["response"] for line in text.splitlines())


def response_text(text: str) -> str:
    """Return the first text of a Responses object."""
    answer = json.loads(text)
    found: str = next(
        part["text"] for output in answer["output"] for part in output["content"] if part["text"]
    )
    return found


LABEL_PROPERTIES = {
    "name": {"type": "string", "minLength": 1},
    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    "topicality": {"type": "number", "minimum": 0, "maximum": 1},
    "nsfw": {"type": "boolean"},
    "nsfw_confidence": {"type": "number", "minimum": 0, "maximum": 1},
}
LABELS = {
    "type": "object",
    "properties": {
        "labels": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": LABEL_PROPERTIES,
                "required": list(LABEL_PROPERTIES),
                "additionalProperties": False,
            },
            "default": [],
        }
    },
    "required": ["labels"],
    "additionalProperties": False,
}
TAGS = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["tags"],
    "additionalProperties": False,
}


def recorded(image: bytes) -> dict[str, Recorded]:
    """Return the requests of all programs for one image."""
    uuid = "b0db2187-7a09-438c-8649-a9c6c0f7b8a1"
    vision = {"id": uuid, "suffix": "", "stream": False}
    return {
        # photoprism/photoprism, internal/ai/vision/api_request.go: NewApiRequestImages
        "photoprism caption": Recorded(
            "/api/v1/vision/caption",
            {**vision, "model": "caption", "version": "latest", "images": [data_url(image)]},
            lambda text: json.loads(text)["result"]["caption"]["text"],
        ),
        "photoprism labels": Recorded(
            "/api/v1/vision/labels",
            {**vision, "model": "nasnet", "version": "latest", "images": [data_url(image)] * 2},
            lambda text: [label["name"] for label in json.loads(text)["result"]["labels"]],
        ),
        # photoprism/photoprism, internal/ai/vision/api_ollama.go, engine_ollama.go
        "photoprism caption by ollama": Recorded(
            "/api/generate",
            {
                **vision,
                "model": "captiond:latest",
                "prompt": "Create a caption with exactly one sentence in the active voice.",
                "options": {"temperature": 0.1},
                "images": [base64(image)],
            },
            lambda text: last_line(text)["response"].strip(),
        ),
        "photoprism labels by ollama": Recorded(
            "/api/generate",
            {
                **vision,
                "model": "captiond:latest",
                "system": "You are a PhotoPrism vision model.",
                "prompt": "Analyze the image and return label objects.",
                "format": "json",
                "options": {"temperature": 0.1, "top_p": 0.9, "stop": ["\n\n"]},
                "images": [base64(image)],
            },
            lambda text: [
                label["name"] for label in json.loads(last_line(text)["response"])["labels"]
            ],
        ),
        # photoprism/photoprism, internal/ai/vision/api_request.go: openAIJSON
        "photoprism caption by openai": Recorded(
            "/v1/responses",
            responses_of(image, "captiond", max_output_tokens=512),
            response_text,
        ),
        "photoprism labels by openai": Recorded(
            "/v1/responses",
            responses_of(
                image,
                "captiond",
                text={"format": {"type": "json_schema", "name": "labels_v1", "schema": LABELS}},
            ),
            lambda text: [label["name"] for label in json.loads(response_text(text))["labels"]],
        ),
        # karakeep-app/karakeep, packages/shared/inference.ts
        "karakeep by ollama": Recorded(
            "/api/generate",
            {
                "model": "captiond",
                "format": TAGS,
                "stream": True,
                "keep_alive": "5m",
                "options": {"num_ctx": 2048, "num_predict": 2048},
                "prompt": "Analyze the attached image and suggest relevant tags.",
                "images": [base64(image)],
            },
            lambda text: json.loads(joined(text))["tags"],
        ),
        "karakeep by openai": Recorded(
            "/v1/chat/completions",
            {
                "model": "captiond",
                "max_tokens": 2048,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "schema", "strict": True, "schema": TAGS},
                },
                "messages": [message_of(image, detail="low")],
            },
            lambda text: json.loads(json.loads(text)["choices"][0]["message"]["content"])["tags"],
        ),
        # open-webui/open-webui, backend/open_webui/routers/ollama.py, utils/payload.py
        "open-webui": Recorded(
            "/api/chat",
            {
                "model": "captiond/scenes:latest",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "What is this?", "images": [base64(image)]},
                    {"role": "assistant", "content": "a picture"},
                    {"role": "user", "content": "Are you sure?"},
                ],
                "options": {},
                "stream": True,
            },
            lambda text: "".join(
                json.loads(line)["message"]["content"] for line in text.splitlines()
            ),
        ),
    }


def message_of(image: bytes, **more: str) -> dict[str, Any]:
    """Return a message of a chat in OpenAI's form."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": "Describe the image."},
            {"type": "image_url", "image_url": {"url": data_url(image), **more}},
        ],
    }


def responses_of(image: bytes, model: str, **more: Any) -> dict[str, Any]:
    """Return the body of POST /v1/responses."""
    content = [
        {"type": "input_text", "text": "Describe the image."},
        {"type": "input_image", "image_url": data_url(image), "detail": "low"},
    ]
    system = [{"type": "input_text", "text": "You describe images."}]
    return {
        "model": model,
        "input": [
            {"role": "system", "type": "message", "content": system},
            {"role": "user", "type": "message", "content": content},
        ],
        "temperature": 0.1,
        **more,
    }
