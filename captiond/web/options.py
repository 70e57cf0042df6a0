"""What a request asks for in its form fields, checked: wrong ones are told as a 422 list."""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from captiond.config import Listed, NotEmpty, Pattern, Settings
from captiond.jobs import Generation, Options
from captiond.tags import Category, Kind, TagOptions
from captiond.web.problems import InvalidRequest

GENERATION = {field.name for field in dataclasses.fields(Generation)}
RequestPatterns = Annotated[tuple[Pattern, ...], Listed, Field(max_length=100)]


class OptionFields(BaseModel):
    """The fields beside the files; lists are told with commas. Other fields are nobody's."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str | None = Field(None, max_length=200)
    num_beams: int | None = Field(None, ge=1, le=8)
    max_new_tokens: int | None = Field(None, ge=1, le=100)
    min_new_tokens: int | None = Field(None, ge=0, le=100)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    num_captions: int | None = Field(None, ge=1, le=5)
    no_cache: bool = False
    language: str | None = None
    tag_kinds: Annotated[tuple[Kind, ...] | None, NotEmpty, Listed] = None
    tag_categories: Annotated[tuple[Category, ...] | None, NotEmpty, Listed] = None
    tag_deny: RequestPatterns = ()
    tag_allow: RequestPatterns = ()
    tag_min_length: int | None = Field(None, ge=1, le=100)
    tag_max_number: int | None = Field(None, ge=0, le=1000)

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = (info.context or {}).get("languages", ())
        if value is not None and value not in known:
            message = "No tag pipeline for this language; there is one for: {known}"
            raise PydanticCustomError("language", message, {"known": ", ".join(known)})
        return value

    @field_validator("num_captions")
    @classmethod
    def check_captions(cls, value: int | None, info: ValidationInfo) -> int | None:
        beams = info.data.get("num_beams")
        if value is not None and beams is not None and value > beams:
            message = "There are no more captions than beams: num_beams is {beams}"
            raise PydanticCustomError("num_captions", message, {"beams": beams})
        return value

    @field_validator("min_new_tokens")
    @classmethod
    def check_lengths(cls, value: int | None, info: ValidationInfo) -> int | None:
        most = info.data.get("max_new_tokens") or (info.context or {}).get("max_new_tokens")
        if value is not None and most is not None and value > most:
            message = "Input should be at most max_new_tokens, which is {most}"
            raise PydanticCustomError("min_new_tokens", message, {"most": most})
        return value

    def generation(self, defaults: Generation) -> Generation | None:
        """What was asked for, the rest as by default; None where nothing was."""
        given = self.model_dump(include=GENERATION, exclude_none=True)
        if not given:
            return None
        wanted = replace(defaults, **given)
        # What was not asked for gives way to what was.
        return replace(
            wanted,
            num_beams=max(wanted.num_beams, wanted.num_captions),
            min_new_tokens=min(wanted.min_new_tokens, wanted.max_new_tokens),
        )

    def options(self, defaults: Generation) -> Options:
        return Options(
            generation=self.generation(defaults),
            no_cache=self.no_cache,
            language=self.language,
            tags=TagOptions(
                kinds=self.tag_kinds,
                categories=self.tag_categories,
                deny=self.tag_deny,
                allow=self.tag_allow,
                min_length=self.tag_min_length,
                max_number=self.tag_max_number,
            ),
        )


def options_of(fields: Mapping[str, str], settings: Settings) -> Options:
    """The options in a form's fields; an empty field is as none.

    Raises:
        InvalidRequest: one is out of range, or names what there is not.
    """
    given = {name: value for name, value in fields.items() if value.strip()}
    defaults = settings.generation.defaults
    context = {
        "languages": tuple(settings.tags.pipelines),
        "max_new_tokens": defaults.max_new_tokens,
    }
    try:
        return OptionFields.model_validate(given, context=context).options(defaults)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise InvalidRequest(
            [{**problem, "loc": ["body", *problem["loc"]]} for problem in problems]
        ) from None
