"""The bodies of Ollama's calls: what is read from requests, and the types of answers."""

from typing import Annotated, Any, NotRequired

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from captiond.web.dialects.answers import Wanted
from captiond.web.dialects.dialect_call import DialectBody, Image


def wanted_format(value: object) -> Wanted:
    """Return what `format` asks for: text, JSON, or JSON by a schema. Raises ValueError."""
    match value:
        case None | "":
            return None
        case "json":
            return True
        case dict():
            return value
        case _:
            raise ValueError('must be "json" or a JSON schema')


Format = Annotated[Any, BeforeValidator(wanted_format)]


class StreamableRequest(DialectBody):
    """What both calls for captions take."""

    model: str = Field("", description="The name of the model, as GET /api/tags lists it.")
    stream: bool | None = Field(None, description="false: one JSON object instead of NDJSON.")
    format: Format = Field(None, description='"json", or a JSON schema for the answer.')
    keep_alive: str | float | None = Field(None, description="0 without an image: unload.")

    @property
    def streams(self) -> bool:
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        """Whether a request without images asks to free the model's memory."""
        return self.keep_alive is not None and str(self.keep_alive) in {"0", "0.0", "0s", "0m"}


class OllamaGenerateRequest(StreamableRequest):
    """The body of POST /api/generate."""

    prompt: str | None = Field("", description="Ignored, unless [dialects] prompts says prefix.")
    images: list[Image] | None = Field(None, description="Images, in base64 or as data URLs.")


class OllamaRequestMessage(DialectBody):
    """A message of a chat."""

    role: str = ""
    content: str | None = ""
    images: list[Image] | None = None


class OllamaChatRequest(StreamableRequest):
    """The body of POST /api/chat. The last message with images is answered."""

    messages: list[OllamaRequestMessage] | None = None


class OllamaShowRequest(DialectBody):
    """The body of POST /api/show. Old clients send `name`."""

    model: str = ""
    name: str = ""


class OllamaDurations(TypedDict):
    """How long the answer took, in nanoseconds. The counts are of words."""

    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]


class OllamaAnswer(OllamaDurations):
    """What the answers of both calls have. `done` is true in the last line of a stream only."""

    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[str]


class OllamaGenerateAnswer(OllamaAnswer):
    """The answer of POST /api/generate, or one line of it."""

    response: str


class OllamaMessage(TypedDict):
    """The answer to a chat."""

    role: str
    content: str


class OllamaChatAnswer(OllamaAnswer):
    """The answer of POST /api/chat, or one line of it."""

    message: OllamaMessage


class OllamaDetails(TypedDict):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(TypedDict):
    """A model in a list. captiond does not know its size and its date."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails


class OllamaModels(TypedDict):
    """The answer of GET /api/tags."""

    models: list[OllamaModel]


class OllamaLoadedModel(TypedDict):
    """A model that is loaded. It stays loaded until captiond stops."""

    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails
    expires_at: str
    size_vram: int
    context_length: int


class OllamaLoadedModels(TypedDict):
    """The answer of GET /api/ps."""

    models: list[OllamaLoadedModel]


class OllamaShow(TypedDict):
    """The answer of POST /api/show."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(TypedDict):
    """The answer of GET /api/version: the version of Ollama whose API this is, and captiond's."""

    version: str
    captiond: str
