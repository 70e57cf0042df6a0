"""The sections of the settings that requests can override: how captions and tags are made."""

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from captiond.jobs import ENGLISH, Generation, SearchRules
from captiond.notation.textvalues import AnyCase, InHome, Listed, NeededPath, OptionalPath, Tabled
from captiond.request_options import (
    ALLOW,
    DENY,
    THRESHOLD,
    Categories,
    GenerationOptions,
    Kinds,
    LanguageCode,
    MaxNumber,
    MinLength,
    Patterns,
    Threshold,
)
from captiond.tags import DEFAULT_KINDS, TagFilter
from captiond.vocabulary import TEMPLATE, Scorer, Template
from captiond.wording.tidying import TextRules

MAX_PATTERNS = 1000
MAX_BANNED = 200
Phrase = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^*]+\*?$")]


class Section(BaseModel):
    """The settings under one `[section]` of the file.

    Its validator is made when it is first needed. Child processes get checked settings and need
    none, and so they start sooner.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class GenerationSettings(Section, GenerationOptions):
    """How captions are generated, for requests that do not choose otherwise."""

    @model_validator(mode="after")
    def check_lengths(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise PydanticCustomError("lengths", "min_new_tokens is greater than max_new_tokens")
        return self

    @property
    def defaults(self) -> Generation:
        """Return the generation of a request that sets no option."""
        return Generation(**self.model_dump())


class CaptionSettings(Section):
    """What captions must not be, and how they are worded."""

    ban_hallucinations: bool = Field(
        True,
        description="No caption has a word that this kind of model is known to invent, such as "
        "arafed.",
    )
    banned_words: Annotated[tuple[Phrase, ...], Listed] = Field(
        (),
        max_length=MAX_BANNED,
        description="Further words and phrases that no caption has. word* stands for all words "
        "that begin so.",
    )
    finish_tokens: int = Field(
        10,
        ge=0,
        le=100,
        description="So many tokens more may a caption take to end by itself, if its request does "
        "not choose another max_new_tokens.",
    )
    end_loops: bool = Field(
        True,
        description='Cut a caption where it begins to repeat itself, as in "a hat on a hat on".',
    )
    complete_phrases: bool = Field(
        True, description="Cut a caption that has reached its longest length after its last phrase."
    )
    repair_spacing: bool = Field(
        True, description='Remove the spaces within words and around marks, as in "t - shirt".'
    )
    drop_openings: bool = Field(
        False, description='Remove openings such as "there is" and "a picture of".'
    )
    sentences: bool = Field(
        False, description="Begin a caption with a capital, and end it with a full stop."
    )
    hedge_below: float = Field(
        0.4,
        ge=0,
        le=1,
        description='An alternative text begins with "Possibly" if the confidence of the caption '
        "is below this. 0: never.",
    )

    @property
    def search_rules(self) -> SearchRules:
        """Return the rules for the search for captions."""
        return SearchRules(self.ban_hallucinations, self.banned_words, self.finish_tokens)

    @property
    def text_rules(self) -> TextRules:
        """Return the rules for the texts that a search has found."""
        names = TextRules.__dataclass_fields__
        return TextRules(**{name: getattr(self, name) for name in names})


class TagSettings(Section):
    pipelines: Annotated[
        dict[LanguageCode, Annotated[str, Field(min_length=1), InHome]], Tabled
    ] = Field(
        {"en": "captiond/english"},
        min_length=1,
        description="A spaCy pipeline for each language: captiond/english, an installed package, "
        "or a folder.",
    )
    language: str = Field(
        "en",
        validate_default=True,
        description="Default language of the tags. tags.pipelines must have it.",
    )
    kinds: Kinds = DEFAULT_KINDS
    categories: Categories = ()
    deny: Patterns = Field((), max_length=MAX_PATTERNS, description=DENY)
    allow: Patterns = Field((), max_length=MAX_PATTERNS, description=ALLOW)
    min_length: MinLength = 1
    max_number: MaxNumber = 0
    synonyms: OptionalPath = Field(
        None,
        description="File with lines such as: automobile = car. The words on the left become those "
        "on the right.",
    )

    vocabulary: OptionalPath = Field(
        None,
        description="File with one tag on each line, which are scored against each image. A line "
        "may set a category and a threshold: sunset = nature, 2.5.",
    )
    vocabulary_template: str = Field(
        TEMPLATE,
        max_length=200,
        description="Text in which the tags of the vocabulary are tried. {tag} stands for a tag.",
    )
    vocabulary_scorer: Annotated[Scorer, AnyCase] = Field(
        "likelihood",
        description="What scores the tags of the vocabulary: the captioner (likelihood), or the "
        "model of `model.matcher` (matching).",
    )
    vocabulary_threshold: Threshold | None = Field(
        None, description=f"{THRESHOLD} Default: 4 by likelihood, 0 by matching."
    )

    @field_validator("vocabulary_template")
    @classmethod
    def check_template(cls, value: str) -> str:
        try:
            Template.parse(value)
        except ValueError as error:
            raise PydanticCustomError("template", "{problem}", {"problem": str(error)}) from None
        return value

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str, info: ValidationInfo) -> str:
        pipelines = info.data.get("pipelines", {value: ""})
        if value not in pipelines:
            message = "tags.pipelines has no pipeline for this language, only for: {known}"
            raise PydanticCustomError("language", message, {"known": ", ".join(pipelines)})
        return value

    @property
    def filter(self) -> TagFilter:
        """Return the filter that applies to the tags of every request."""
        return TagFilter(
            kinds=self.kinds,
            categories=self.categories,
            deny=self.deny,
            allow=(self.allow,) if self.allow else (),
            min_length=self.min_length,
            max_number=self.max_number,
        )


class TranslationSettings(Section):
    """The languages that captions are translated into, from English."""

    models: Annotated[dict[LanguageCode, Annotated[str, Field(min_length=1), InHome]], Tabled] = (
        Field(
            {},
            description="A Marian model for each language: a name on the Hugging Face hub, such as "
            "Helsinki-NLP/opus-mt-en-de, or a folder. Empty: captions are in English only.",
        )
    )
    language: str = Field(
        ENGLISH,
        validate_default=True,
        description="Default language of the captions: en, or one that translation.models has.",
    )
    num_beams: int = Field(4, ge=1, le=8, description="Number of beams of a translation.")
    dictionaries: Annotated[dict[LanguageCode, NeededPath], Tabled] = Field(
        {},
        description="A file of tags for each language, with a tab between the English tag and its "
        "translation. Its lines come before those that captiond is shipped with.",
    )

    @field_validator("models")
    @classmethod
    def check_models(cls, value: dict[str, str]) -> dict[str, str]:
        if ENGLISH in value:
            message = "captions are written in English; remove the entry en"
            raise PydanticCustomError("language", message)
        return value

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str, info: ValidationInfo) -> str:
        models = info.data.get("models", {value: ""})
        if value not in (ENGLISH, *models):
            message = "translation.models has no model for this language, only for: {known}"
            raise PydanticCustomError("language", message, {"known": ", ".join(models) or "none"})
        return value

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that a request can choose for its captions."""
        return (ENGLISH, *self.models)
