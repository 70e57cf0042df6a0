"""The options of a captioning request, each defined once.

A field of `RequestOptions` gives an option its name, type, bounds, default and description. Form
fields are parsed by this model. The settings in `[generation]` and `[tags]` share its types, bounds
and descriptions, and the commands' flags and the tables in the docs take their texts from them.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from captiond.jobs import Generation
from captiond.notation.textvalues import Listed, NotEmpty
from captiond.tags import DEFAULT_KINDS, Category, Kind, TagFilter
from captiond.vocabulary import check_tag

DEFAULT_GENERATION = Generation()
DEFAULT_FILTER = TagFilter()

MAX_REQUEST_PATTERNS = 100  # of one request; the settings may have more
DENY = "Tags and lemmas that are never returned. * matches any characters."
ALLOW = "If set, return only these tags and lemmas. * matches any characters."
AS_WELL = "The list of the settings applies as well."


def checked_tag(text: str) -> str:
    """Return a tag of a vocabulary with single spaces.

    Raises:
        PydanticCustomError: a text cannot be a tag.
    """
    text = " ".join(text.split())
    try:
        check_tag(text)
    except ValueError as error:
        raise PydanticCustomError("tag", "{problem}", {"problem": str(error)}) from None
    return text


def each_once(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts without those that were there before in another case."""
    firsts: dict[str, str] = {}
    for text in texts:
        firsts.setdefault(text.casefold(), text)
    return tuple(firsts.values())


LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]{2,8})*$")]
Pattern = Annotated[str, Field(min_length=1, max_length=100)]
Patterns = Annotated[tuple[Pattern, ...], Listed]
Kinds = Annotated[
    tuple[Kind, ...],
    NotEmpty,
    Listed,
    Field(description="Which kinds of tags to return."),
]
Categories = Annotated[
    tuple[Category, ...],
    Listed,
    Field(description="If set, return only tags of these categories."),
]
MinLength = Annotated[
    int, Field(ge=1, le=100, description="Smallest number of characters in a tag.")
]
MaxNumber = Annotated[
    int,
    Field(
        ge=0,
        le=1000,
        description="Largest number of tags for one caption. The most salient tags are kept. "
        "0: no limit.",
    ),
]


MAX_REQUEST_TAGS = 1000
VocabularyText = Annotated[str, AfterValidator(checked_tag)]
VocabularyTexts = Annotated[tuple[VocabularyText, ...], AfterValidator(each_once), Listed]
Threshold = Annotated[float, Field(ge=-50, le=50, allow_inf_nan=False)]
THRESHOLD = "Least score, in nats, of the tags of the vocabulary that an image has."


class GenerationOptions(BaseModel):
    """How captions are generated: set for a deployment in `[generation]`, or for one request."""

    model_config = ConfigDict(defer_build=True)

    prompt: str = Field(
        DEFAULT_GENERATION.prompt,
        max_length=200,
        description='Text that each caption begins with, for example "a photograph of".',
    )
    num_beams: int = Field(
        DEFAULT_GENERATION.num_beams,
        ge=1,
        le=8,
        description="Number of beams. 1 is greedy search, more is beam search.",
    )
    max_new_tokens: int = Field(
        DEFAULT_GENERATION.max_new_tokens,
        ge=1,
        le=100,
        description="Length of the longest caption, in tokens. The prompt does not count.",
    )
    min_new_tokens: int = Field(
        DEFAULT_GENERATION.min_new_tokens,
        ge=0,
        le=100,
        description="Length of the shortest caption, in tokens. The prompt does not count.",
    )
    repetition_penalty: float = Field(
        DEFAULT_GENERATION.repetition_penalty,
        ge=0.1,
        le=10,
        description="A value above 1 makes words less likely that the caption already contains.",
    )

    no_repeat_ngram_size: int = Field(
        6,
        ge=0,
        le=100,
        description="So many tokens in a row occur only once in a caption. 0: no limit.",
    )
    context: str = Field(
        DEFAULT_GENERATION.context,
        max_length=500,
        description='What is known about the image, for example "names: Ada, Ben; place: Lisbon". '
        "A model that cannot use it ignores it, and the result has a note.",
    )


class RequestOptions(GenerationOptions):
    """What a request may ask for. A field that is not set leaves the choice to the settings.

    `model_fields_set` has the names of the fields that the request sets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    num_captions: int = Field(
        DEFAULT_GENERATION.num_captions,
        ge=1,
        le=5,
        description="Number of captions for each image, returned in `captions`, best first.",
    )
    rerank: bool = Field(
        False,
        description="Order the captions by how well they fit the image, as the model of the "
        "setting `model.matcher` says, instead of by their scores.",
    )
    no_cache: bool = Field(
        False,
        description="Caption the image even if its caption is in the cache, and do not store the "
        "new caption there.",
    )
    language: str | None = Field(
        None,
        description="Language of the tags. The setting `tags.pipelines` lists the languages.",
    )
    caption_language: str | None = Field(
        None,
        description="Language of the captions: en, or one of the setting `translation.models`. "
        "Default: the setting `translation.language`.",
    )
    vocabulary: VocabularyTexts = Field(
        (),
        max_length=MAX_REQUEST_TAGS,
        description="Tags to score against the image, instead of those of the settings. Those that "
        "fit are returned.",
    )
    vocabulary_threshold: Threshold | None = Field(None, description=THRESHOLD)
    tag_kinds: Kinds = DEFAULT_KINDS
    tag_categories: Annotated[Categories, NotEmpty] = ()
    tag_deny: Patterns = Field((), max_length=MAX_REQUEST_PATTERNS, description=f"{DENY} {AS_WELL}")
    tag_allow: Patterns = Field(
        (), max_length=MAX_REQUEST_PATTERNS, description=f"{ALLOW} {AS_WELL}"
    )
    tag_min_length: MinLength = DEFAULT_FILTER.min_length
    tag_max_number: MaxNumber = DEFAULT_FILTER.max_number
