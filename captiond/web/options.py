"""The options of a request, read from its fields and checked against the settings."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import ValidationError

from captiond.jobs import DEFAULT_OPTIONS, ENGLISH, Generation, Options
from captiond.request_options import RequestOptions
from captiond.settings.config import Settings
from captiond.tags import Kind, TagOptions
from captiond.web.async_tasks import callback_url
from captiond.web.field_problems import MISSPELT, Problem, extra, nearest, problem
from captiond.web.problems import InvalidRequest
from captiond.web.uploading.forms import Form, FormSpec

GENERATION = {field.name for field in dataclasses.fields(Generation)}
TAG_PREFIX = "tag_"
MAX_COMPARED = 16  # unknown fields of a request; the others are ignored
OPTIONS = tuple(RequestOptions.model_fields)
# From the name of a type in a JSON Schema to its types in Python, its kind of problem and its text.
JSON_TYPES: dict[str, tuple[tuple[type, ...], str, str]] = {
    "integer": ((int,), "int_type", "integer"),
    "number": ((int, float), "float_type", "number"),
    "boolean": ((bool,), "bool_type", "boolean"),
    "string": ((str,), "string_type", "string"),
    "array": ((list,), "list_type", "list"),
}
NEAR = 0.5  # the least ratio for a name to suggest; in JSON, an unknown one is always an error


def form_options(
    form: Form, spec: FormSpec, settings: Settings, *, also: Sequence[str] = ()
) -> Options:
    """Return the options that a form asks for. `also` names the other fields that the call takes.

    Raises:
        InvalidRequest: a value is out of range, or the name of a field is misspelt.
    """
    typed = form.document is not None
    takes = (*spec.json_keys, *also) if typed else also
    return options_of(form.fields, settings, also=takes, typed=typed)


def options_of(
    fields: Mapping[str, Any],
    settings: Settings,
    *,
    also: Sequence[str] = (),
    typed: bool = False,
) -> Options:
    """Return the options that fields ask for. An empty field counts as absent.

    The fields of a form are texts, and `also` names the other fields that the call takes. Any other
    field is ignored, as it was by the service that captiond replaces, unless its name looks like a
    misspelt option.

    If they are `typed`, they are from JSON. They must have the right types, null counts as absent,
    and any other field is an error.

    Raises:
        InvalidRequest: a value is out of range, or the name of a field is misspelt.
    """
    given = {name: value for name, value in fields.items() if not is_absent(value, typed=typed)}
    known = {name: value for name, value in given.items() if name in OPTIONS}
    problems = list(unknown_fields(given, (*also, *OPTIONS), typed=typed))
    if typed:
        # guard: json-types
        problems += wrong_types(known)
    if not (known or problems):
        return DEFAULT_OPTIONS
    try:
        wanted = RequestOptions.model_validate(known)
    except ValidationError as error:
        found = pydantic_problems(error, besides={str(each["loc"]) for each in problems})
        raise InvalidRequest([*problems, *found]) from None
    problems += conflicts(wanted, known, settings)
    if problems:
        raise InvalidRequest(problems)
    return to_options(wanted, settings)


def is_absent(value: object, *, typed: bool) -> bool:
    """Return whether a field counts as absent."""
    return value is None if typed else not str(value).strip()


def unknown_fields(
    given: Mapping[str, Any], takes: tuple[str, ...], *, typed: bool
) -> Iterator[Problem]:
    """Yield a problem for each field that the call does not take and that cannot be ignored."""
    for name in [name for name in given if name not in takes][:MAX_COMPARED]:
        near = nearest(name, takes, NEAR if typed else MISSPELT)
        if name == callback_url.FIELD:
            hint = "only a task has a webhook: POST /async-batch-caption"
            yield extra(name, given[name], hint)
        elif near:
            yield extra(name, given[name], f"did you mean {near}?")
        elif typed:
            yield extra(name, given[name], f"the call takes {', '.join(takes)}")


@cache
def option_types() -> dict[str, str]:
    """Return the name of the JSON type of each option."""
    properties = RequestOptions.model_json_schema()["properties"]
    return {name: each.get("type") or each["anyOf"][0]["type"] for name, each in properties.items()}


def wrong_types(given: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each option whose value has another JSON type, such as a text."""
    for name, value in given.items():
        types, kind, text = JSON_TYPES[option_types()[name]]
        whole = int in types and isinstance(value, float) and value.is_integer()
        fits = whole or isinstance(value, types)
        if not fits or isinstance(value, bool) != (bool in types):
            yield problem(kind, name, f"Input should be a valid {text}", value)


def pydantic_problems(error: ValidationError, besides: Collection[str]) -> Iterator[Problem]:
    """Yield the problems that pydantic has found at other places than `besides`."""
    for entry in error.errors(include_url=False, include_context=False):
        place = ["body", *entry["loc"]]
        if str(place[:2]) not in besides:
            yield {**entry, "loc": place}


def conflicts(
    wanted: RequestOptions, given: Mapping[str, Any], settings: Settings
) -> Iterator[Problem]:
    """Yield a problem for each option that another one, or the settings, rule out."""
    languages = settings.tags.pipelines
    if wanted.language is not None and wanted.language not in languages:
        message = f"No tag pipeline for this language; there is one for: {', '.join(languages)}"
        yield problem("language", "language", message, given["language"])
    yield from language_conflicts(wanted, given, settings)
    if given.keys() >= {"num_captions", "num_beams"} and wanted.num_captions > wanted.num_beams:
        message = f"Input should be at most num_beams, which is {wanted.num_beams}"
        yield problem("num_captions", "num_captions", message, given["num_captions"])
    if given.keys() >= {"vocabulary", "tag_kinds"} and Kind.VOCABULARY not in wanted.tag_kinds:
        message = "Input should include vocabulary, because the request has one"
        yield problem("tag_kinds", "tag_kinds", message, given["tag_kinds"])
    longest = settings.generation.max_new_tokens
    if "max_new_tokens" in given:
        longest = wanted.max_new_tokens
    if "min_new_tokens" in given and wanted.min_new_tokens > longest:
        message = f"Input should be at most max_new_tokens, which is {longest}"
        yield problem("min_new_tokens", "min_new_tokens", message, given["min_new_tokens"])


def language_conflicts(
    wanted: RequestOptions, given: Mapping[str, Any], settings: Settings
) -> Iterator[Problem]:
    """Yield a problem if captions cannot be in a language, or if it excludes that of the tags."""
    asked, languages = wanted.caption_language, settings.translation.languages
    if asked is not None and asked not in languages:
        message = f"Input should be one of these languages: {', '.join(languages)}"
        yield problem("language", "caption_language", message, given["caption_language"])
        return
    language = settings.translation.language if asked is None else asked
    if language != ENGLISH and wanted.language not in (None, ENGLISH):
        message = (
            f"Tags of captions in {language} are translated from English; leave this option out, "
            "or set caption_language to en"
        )
        yield problem("language", "language", message, given["language"])


def to_options(wanted: RequestOptions, settings: Settings) -> Options:
    given = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    tags = {
        name.removeprefix(TAG_PREFIX): value
        for name, value in given.items()
        if name.startswith(TAG_PREFIX)
    }
    if wanted.vocabulary and Kind.VOCABULARY not in tags.get("kinds", settings.tags.kinds):
        tags["kinds"] = (*settings.tags.kinds, Kind.VOCABULARY)  # the request wants its tags
    return Options(
        generation=to_generation(given, settings.default_generation),
        no_cache=wanted.no_cache,
        language=wanted.language,
        caption_language=wanted.caption_language,
        tags=TagOptions(**tags),
    )


def to_generation(given: Mapping[str, Any], defaults: Generation) -> Generation | None:
    """Return the defaults with the given options; None if no option of generation is given."""
    changes = {name: value for name, value in given.items() if name in GENERATION}
    if not changes:
        return None
    wanted = replace(defaults, **changes)
    if wanted.max_new_tokens != defaults.max_new_tokens:  # this client counts tokens
        wanted = replace(wanted, rules=replace(wanted.rules, finish_tokens=0))
    # A default gives way to an option that contradicts it.
    if wanted.num_beams < wanted.num_captions:
        wanted = replace(wanted, num_beams=wanted.num_captions)
    if wanted.min_new_tokens > wanted.max_new_tokens:
        wanted = replace(wanted, min_new_tokens=wanted.max_new_tokens)
    return wanted
