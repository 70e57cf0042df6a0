"""The bodies of PhotoPrism's vision service."""

from typing import NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from captiond.web.dialects.dialect_call import DialectBody, Image


class VisionRequest(DialectBody):
    """The body of both calls. PhotoPrism sends several images if they show parts of one picture."""

    id: str = Field("", description="Returned with the answer.")
    model: str = Field("", description="Ignored: the model is captiond's.")
    version: str = Field("", description="Ignored.")
    prompt: str = Field("", description="Ignored, unless [dialects] prompts says prefix.")
    url: str = Field("", description="Refused: URLs are never fetched.")
    images: list[Image] | None = Field(None, description="Images as data URLs or in base64.")


class VisionModel(TypedDict):
    """The model that captioned."""

    name: str
    version: str


class VisionCaption(TypedDict):
    """A caption. `source` is what PhotoPrism calls things that are seen in an image."""

    text: str
    source: str
    confidence: NotRequired[float]


class VisionLabel(TypedDict):
    """A label. PhotoPrism shows labels with a higher priority first."""

    name: str
    source: str
    priority: int
    confidence: NotRequired[float]
    topicality: float
    categories: list[str]


class VisionCaptionResult(TypedDict):
    """The caption of an image."""

    caption: VisionCaption


class VisionLabelsResult(TypedDict):
    """The labels of an image, the most salient first."""

    labels: list[VisionLabel]


class VisionAnswer(TypedDict):
    """What both answers have. `code` is the HTTP status."""

    id: str
    code: int
    model: VisionModel


class VisionCaptionAnswer(VisionAnswer):
    """The answer of POST /api/v1/vision/caption."""

    result: VisionCaptionResult


class VisionLabelsAnswer(VisionAnswer):
    """The answer of POST /api/v1/vision/labels."""

    result: VisionLabelsResult
