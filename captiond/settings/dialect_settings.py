"""The section of the settings about the APIs of other services."""

from typing import Annotated, Literal

from pydantic import Field

from captiond.notation.textvalues import AnyCase, Listed
from captiond.settings.option_settings import Section


class DialectSettings(Section):
    ollama: bool = Field(
        True, description="Answer Ollama's calls, such as POST /api/chat. false: they are 404."
    )
    openai: bool = Field(
        True,
        description="Answer OpenAI's calls, such as POST /v1/chat/completions. false: they are "
        "404.",
    )
    photoprism: bool = Field(
        True,
        description="Answer the calls of PhotoPrism's vision service, such as POST "
        "/api/v1/vision/caption. false: they are 404.",
    )
    prompts: Annotated[Literal["ignore", "prefix"], AnyCase] = Field(
        "ignore",
        description="What the prompt of such a call does. ignore: nothing, since it is an "
        "instruction for a model that chats. prefix: the caption begins with it.",
    )
    models: Annotated[tuple[str, ...], Listed] = Field(
        (),
        description="Further names under which clients may ask for the model, such as llava. * "
        "accepts every name.",
    )
