"""The bodies of OpenAI's calls: what is read from requests, and the types of answers."""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from captiond.web.dialects.answers import Wanted
from captiond.web.dialects.dialect_call import DialectBody, Image
from captiond.web.problems import InvalidRequest
from captiond.web.uploading.jsonbody import ImageReference

MOST_CHOICES = 5


class ImageUrl(DialectBody):
    """The object around the URL of an image."""

    url: Image


class OpenAIPart(DialectBody):
    """A part of a message: a text or an image."""

    type: str = ""
    text: str | None = None
    image_url: Image | ImageUrl | None = None
    file_id: str | None = None

    @property
    def image(self) -> ImageReference | None:
        return self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url


class OpenAIMessage(DialectBody):
    """A message: a text, or parts."""

    role: str = ""
    content: str | list[OpenAIPart] | None = None

    @property
    def images(self) -> list[ImageReference]:
        parts = self.content if isinstance(self.content, list) else []
        return [part.image for part in parts if part.image is not None]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return " ".join(part.text for part in self.content or [] if part.text)


class JsonSchema(DialectBody):
    """A JSON schema and its name."""

    name: str = ""
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(DialectBody):
    """What the answer is to be. /v1/responses has the schema here, not in `json_schema`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")

    @property
    def wanted(self) -> Wanted:
        if self.type != "json_schema":
            return True if self.type == "json_object" else None
        schema = self.json_schema.schema_ if self.json_schema else self.schema_
        return True if schema is None else schema


class StreamOptions(DialectBody):
    """What a stream has beside the text."""

    include_usage: bool | None = None


class ChatCompletionRequest(DialectBody):
    """The body of POST /v1/chat/completions. The last message with images is answered."""

    model: str = Field("", description="The name of the model, as GET /v1/models lists it.")
    messages: list[OpenAIMessage] = Field(default_factory=list)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES, description="Number of captions.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None


class TextOptions(DialectBody):
    """What the text of the answer is to be."""

    format: ResponseFormat | None = None


class ResponsesRequest(DialectBody):
    """The body of POST /v1/responses. The last message with images is answered."""

    model: str = Field("", description="The name of the model, as GET /v1/models lists it.")
    input: str | list[OpenAIMessage] = ""
    text: TextOptions | None = None
    stream: bool | None = None


class AskedImages(TypedDict):
    """The images that are to be described, and the text beside them."""

    images: list[ImageReference]
    prompt: str


def asked_images(messages: Sequence[OpenAIMessage], field: str) -> AskedImages:
    """Return the images of the last message that has any, and its text.

    Raises:
        InvalidRequest: a part names an uploaded file.
    """
    for at, message in reversed(list(enumerate(messages))):
        check_files(message, (field, at))
        if message.images:
            return {"images": message.images, "prompt": message.text}
    return {"images": [], "prompt": ""}


def check_files(message: OpenAIMessage, place: tuple[str | int, ...]) -> None:
    """Return if a message names no uploaded file. Raises InvalidRequest."""
    parts = message.content if isinstance(message.content, list) else []
    for at, part in enumerate(parts):
        if part.file_id is not None:
            text = "there are no uploaded files here; send the image in image_url"
            where = ["body", *place, "content", at, "file_id"]
            raise InvalidRequest([{"type": "value_error", "loc": where, "msg": text}])


# ---------------------------------------------------------------- answers


class OpenAIModel(TypedDict):
    """A model in a list. captiond does not know when it was made."""

    id: str
    object: str
    created: int
    owned_by: str


class OpenAIModels(TypedDict):
    """The answer of GET /v1/models."""

    object: str
    data: list[OpenAIModel]


class ChatUsage(TypedDict):
    """The size of a request and its answer. captiond counts words, and no prompt."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatMessage(TypedDict):
    """The answer."""

    role: str
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One of several answers."""

    index: int
    message: ChatMessage
    logprobs: None
    finish_reason: str


class ChatCompletion(TypedDict):
    """The answer of POST /v1/chat/completions."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage


class ChatDelta(TypedDict):
    """What a chunk of a stream adds to an answer."""

    role: NotRequired[str]
    content: NotRequired[str]


class ChunkChoice(TypedDict):
    """A part of one of several answers."""

    index: int
    delta: ChatDelta
    logprobs: None
    finish_reason: str | None


class ChatCompletionChunk(TypedDict):
    """An event of a stream of POST /v1/chat/completions."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: NotRequired[ChatUsage | None]


class OutputText(TypedDict):
    """The text of an answer."""

    type: str
    text: str
    annotations: list[Any]


class OutputMessage(TypedDict):
    """The answer."""

    id: str
    type: str
    role: str
    status: str
    content: list[OutputText]


class TokenDetails(TypedDict):
    """Tokens that were not computed anew."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningDetails(TypedDict):
    """Tokens that are not in the answer."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """The size of a request and its answer. captiond counts words, and no prompt."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: ReasoningDetails
    total_tokens: int


class ResponseObject(TypedDict):
    """The answer of POST /v1/responses. It is not stored."""

    id: str
    object: str
    created_at: int
    status: str
    error: None
    incomplete_details: None
    instructions: None
    model: str
    output: list[OutputMessage]
    parallel_tool_calls: bool
    tool_choice: str
    tools: list[Any]
    temperature: None
    top_p: None
    metadata: dict[str, str]
    usage: ResponseUsage | None


class ResponseEvent(TypedDict):
    """An event of a stream of POST /v1/responses."""

    type: str
    sequence_number: int
    response: NotRequired[ResponseObject]
    item: NotRequired[OutputMessage]
    part: NotRequired[OutputText]
    item_id: NotRequired[str]
    output_index: NotRequired[int]
    content_index: NotRequired[int]
    delta: NotRequired[str]
    text: NotRequired[str]
    logprobs: NotRequired[list[Any]]
