"""What a request asks for in its form fields, checked: wrong ones are told as a 422 list."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from captiond.config import Listed, NotEmpty, Pattern, Settings
from captiond.jobs import Options
from captiond.tags import Category, Kind, TagOptions
from captiond.web.problems import InvalidRequest

RequestPatterns = Annotated[tuple[Pattern, ...], Listed, Field(max_length=100)]


class OptionFields(BaseModel):
    """The fields beside the files; lists are told with commas. Other fields are nobody's."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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

    def options(self) -> Options:
        return Options(
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
    context = {"languages": tuple(settings.tags.pipelines)}
    try:
        return OptionFields.model_validate(given, context=context).options()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise InvalidRequest(
            [{**problem, "loc": ["body", *problem["loc"]]} for problem in problems]
        ) from None
