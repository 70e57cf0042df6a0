"""The operations of the dialects, for the table of all operations (`web/operations.py`)."""

from functools import partial

from captiond.errors import CaptiondError, QueueFull
from captiond.keys import Scope
from captiond.web.dialects import ollama, ollama_shapes, openai, openai_shapes, photoprism
from captiond.web.dialects import photoprism_shapes as vision_shapes
from captiond.web.dialects.error_forms import (
    OllamaError,
    OpenAIError,
    PhotoPrismError,
    dialect_status,
)
from captiond.web.dialects.refusals import EmptyResult, ModelUnknown, NoImage, SchemaRefused
from captiond.web.operation import (
    ADMISSION,
    AT_UPLOAD,
    DURING_WORK,
    UPLOAD,
    WHILE_WAITING,
    BodySpec,
    Dialect,
    ErrorForm,
    Group,
    Operation,
    ParameterSpec,
    ResponseSpec,
)

OLLAMA = Group("Ollama", "Ollama's API, as far as it describes images. See docs/dialects.md.")
OPENAI = Group("OpenAI", "OpenAI's API, as far as it describes images. See docs/dialects.md.")
PHOTOPRISM = Group("PhotoPrism", "The API of PhotoPrism's vision service. See docs/dialects.md.")


def status_of(error: type[CaptiondError]) -> int:
    """Return the status of an error in a dialect."""
    return dialect_status(error.status)


ollama_operation = partial(
    Operation,
    group=OLLAMA,
    error_form=ErrorForm(OllamaError, ("code",), status_of),
    dialect=Dialect.OLLAMA,
)
openai_operation = partial(
    Operation,
    group=OPENAI,
    error_form=ErrorForm(OpenAIError, ("error", "code"), status_of),
    dialect=Dialect.OPENAI,
)
photoprism_operation = partial(
    Operation,
    group=PHOTOPRISM,
    error_form=ErrorForm(PhotoPrismError, ("error_code",), status_of),
    dialect=Dialect.PHOTOPRISM,
)
DESCRIBING = (
    *ADMISSION,
    *UPLOAD,
    *AT_UPLOAD,
    *DURING_WORK,
    *WHILE_WAITING,
    QueueFull,
    NoImage,
)
CHATTING = (*DESCRIBING, ModelUnknown, SchemaRefused)
NDJSON, EVENTS = ollama.NDJSON, openai.EVENTS
IN_LINES = "The same as NDJSON: a line with the text, and a last line. This is the default."
IN_EVENTS = "The same as server-sent events, if the request has stream."
NAME = ParameterSpec("model", "path", "A name of the model. It may have slashes.", required=True)

DIALECT_OPERATIONS: tuple[Operation, ...] = (
    ollama_operation(
        "POST",
        "/api/generate",
        "Ollama: describe images.",
        ollama.ollama_generate,
        (
            ResponseSpec(200, "The caption, or JSON.", ollama_shapes.OllamaGenerateAnswer),
            ResponseSpec(
                200,
                IN_LINES,
                None,
                media_type=NDJSON,
                item=ollama_shapes.OllamaGenerateAnswer,
            ),
        ),
        scope=Scope.CAPTION,
        errors=CHATTING,
        body=BodySpec(ollama_shapes.OllamaGenerateRequest, "A prompt with images."),
    ),
    ollama_operation(
        "POST",
        "/api/chat",
        "Ollama: describe the images of a chat.",
        ollama.ollama_chat,
        (
            ResponseSpec(200, "The caption, or JSON.", ollama_shapes.OllamaChatAnswer),
            ResponseSpec(
                200, IN_LINES, None, media_type=NDJSON, item=ollama_shapes.OllamaChatAnswer
            ),
        ),
        scope=Scope.CAPTION,
        errors=CHATTING,
        body=BodySpec(ollama_shapes.OllamaChatRequest, "Messages with images."),
    ),
    ollama_operation(
        "GET",
        "/api/tags",
        "Ollama: list the model.",
        ollama.ollama_tags,
        (ResponseSpec(200, "The model under each of its names.", ollama_shapes.OllamaModels),),
        scope=Scope.READ,
        errors=ADMISSION,
    ),
    ollama_operation(
        "POST",
        "/api/show",
        "Ollama: describe the model.",
        ollama.ollama_show,
        (ResponseSpec(200, "The model.", ollama_shapes.OllamaShow),),
        scope=Scope.READ,
        errors=(*ADMISSION, *UPLOAD, ModelUnknown),
        body=BodySpec(ollama_shapes.OllamaShowRequest, "The name of the model."),
    ),
    ollama_operation(
        "GET",
        "/api/ps",
        "Ollama: list the model if it is loaded.",
        ollama.ollama_ps,
        (ResponseSpec(200, "The model, or none.", ollama_shapes.OllamaLoadedModels),),
        scope=Scope.READ,
        errors=ADMISSION,
    ),
    ollama_operation(
        "GET",
        "/api/version",
        "Ollama: show the version of the API.",
        ollama.ollama_version,
        (ResponseSpec(200, "The version.", ollama_shapes.OllamaVersion),),
    ),
    openai_operation(
        "POST",
        "/v1/chat/completions",
        "OpenAI: describe the images of a chat.",
        openai.openai_chat_completions,
        (
            ResponseSpec(200, "The caption, or JSON.", openai_shapes.ChatCompletion),
            ResponseSpec(
                200,
                IN_EVENTS,
                None,
                media_type=EVENTS,
                item=openai_shapes.ChatCompletionChunk,
                last=openai.DONE,
            ),
        ),
        scope=Scope.CAPTION,
        errors=CHATTING,
        body=BodySpec(openai_shapes.ChatCompletionRequest, "Messages with images."),
    ),
    openai_operation(
        "POST",
        "/v1/responses",
        "OpenAI: describe the images of an input.",
        openai.openai_responses,
        (
            ResponseSpec(200, "The caption, or JSON.", openai_shapes.ResponseObject),
            ResponseSpec(200, IN_EVENTS, None, media_type=EVENTS, item=openai_shapes.ResponseEvent),
        ),
        scope=Scope.CAPTION,
        errors=CHATTING,
        body=BodySpec(openai_shapes.ResponsesRequest, "Messages with images."),
    ),
    openai_operation(
        "GET",
        "/v1/models",
        "OpenAI: list the model.",
        openai.openai_models,
        (ResponseSpec(200, "The model under each of its names.", openai_shapes.OpenAIModels),),
        scope=Scope.READ,
        errors=ADMISSION,
    ),
    openai_operation(
        "GET",
        "/v1/models/{model}",
        "OpenAI: show the model.",
        openai.openai_model,
        (ResponseSpec(200, "The model.", openai_shapes.OpenAIModel),),
        scope=Scope.READ,
        errors=(*ADMISSION, ModelUnknown),
        parameters=(NAME,),
    ),
    photoprism_operation(
        "POST",
        "/api/v1/vision/caption",
        "PhotoPrism: caption an image.",
        photoprism.photoprism_caption,
        (ResponseSpec(200, "The caption.", vision_shapes.VisionCaptionAnswer),),
        scope=Scope.CAPTION,
        errors=(*DESCRIBING, EmptyResult),
        body=BodySpec(vision_shapes.VisionRequest, "Images of one picture."),
    ),
    photoprism_operation(
        "POST",
        "/api/v1/vision/labels",
        "PhotoPrism: find labels for an image.",
        photoprism.photoprism_labels,
        (ResponseSpec(200, "The labels.", vision_shapes.VisionLabelsAnswer),),
        scope=Scope.CAPTION,
        errors=(*DESCRIBING, EmptyResult),
        body=BodySpec(vision_shapes.VisionRequest, "Images of one picture."),
    ),
)
