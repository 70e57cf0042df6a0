"""The options of a request, read from its form fields and checked against the settings."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from captiond.config import Settings
from captiond.jobs import DEFAULT_OPTIONS, Generation, Options
from captiond.request_options import RequestOptions
from captiond.tags import TagOptions
from captiond.web.async_tasks import callback_url
from captiond.web.problems import InvalidRequest

GENERATION = {field.name for field in dataclasses.fields(Generation)}
TAG_PREFIX = "tag_"
# The least ratio of difflib for a misspelt name. "num_beam" has 0.94, "max_tokens" has 0.83;
# "captions" and "prompt_id", which clients may send for themselves, have 0.80.
MISSPELT = 0.82
MAX_MISSPELT = 40  # characters; the time of a comparison grows with the length of a name
MAX_COMPARED = 16  # unknown fields of a request; the others are ignored
OPTIONS = tuple(RequestOptions.model_fields)

Problem = dict[str, object]


def options_of(
    fields: Mapping[str, str], settings: Settings, *, also: Sequence[str] = ()
) -> Options:
    """Return the options that form fields ask for. An empty field counts as absent.

    `also` names the other fields that the call takes. Any other field is ignored, as it was by the
    service that captiond replaces, unless its name looks like a misspelt option.

    Raises:
        InvalidRequest: a value is out of range, or the name of a field is misspelt.
    """
    given = {name: value for name, value in fields.items() if value.strip()}
    known = {name: value for name, value in given.items() if name in OPTIONS}
    problems = list(unknown_fields(given, (*OPTIONS, *also)))
    if not (known or problems):
        return DEFAULT_OPTIONS
    try:
        wanted = RequestOptions.model_validate(known)
    except ValidationError as error:
        raise InvalidRequest([*problems, *pydantic_problems(error)]) from None
    problems += conflicts(wanted, known, settings)
    if problems:
        raise InvalidRequest(problems)
    return to_options(wanted, settings.generation.defaults)


def unknown_fields(given: Mapping[str, str], takes: tuple[str, ...]) -> Iterator[Problem]:
    """Yield a problem for each field that the call does not take and that cannot be ignored."""
    unknown = [name for name in given if name not in takes and len(name) <= MAX_MISSPELT]
    for name in unknown[:MAX_COMPARED]:
        if name == callback_url.FIELD:
            hint = "only a task has a webhook: POST /async-batch-caption"
            yield extra(name, given[name], hint)
        elif near := nearest(name, takes):
            yield extra(name, given[name], f"did you mean {near}?")


@lru_cache(maxsize=1024)
def nearest(name: str, takes: tuple[str, ...]) -> str | None:
    """Return the field of which `name` looks like a misspelling, or None."""
    return next(iter(get_close_matches(name.lower(), takes, n=1, cutoff=MISSPELT)), None)


def extra(name: str, value: str, hint: str) -> Problem:
    return problem("extra_forbidden", name, f"Extra inputs are not permitted; {hint}", value)


def problem(kind: str, name: str, message: str, value: str) -> Problem:
    """Return an entry of a 422 list in FastAPI's shape."""
    return {"type": kind, "loc": ["body", name], "msg": message, "input": value}


def pydantic_problems(error: ValidationError) -> Iterator[Problem]:
    for entry in error.errors(include_url=False, include_context=False):
        yield {**entry, "loc": ["body", *entry["loc"]]}


def conflicts(
    wanted: RequestOptions, given: Mapping[str, str], settings: Settings
) -> Iterator[Problem]:
    """Yield a problem for each option that another one, or the settings, rule out."""
    languages = settings.tags.pipelines
    if wanted.language is not None and wanted.language not in languages:
        message = f"No tag pipeline for this language; there is one for: {', '.join(languages)}"
        yield problem("language", "language", message, given["language"])
    if given.keys() >= {"num_captions", "num_beams"} and wanted.num_captions > wanted.num_beams:
        message = f"Input should be at most num_beams, which is {wanted.num_beams}"
        yield problem("num_captions", "num_captions", message, given["num_captions"])
    longest = settings.generation.max_new_tokens
    if "max_new_tokens" in given:
        longest = wanted.max_new_tokens
    if "min_new_tokens" in given and wanted.min_new_tokens > longest:
        message = f"Input should be at most max_new_tokens, which is {longest}"
        yield problem("min_new_tokens", "min_new_tokens", message, given["min_new_tokens"])


def to_options(wanted: RequestOptions, defaults: Generation) -> Options:
    given = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    tags = {
        name.removeprefix(TAG_PREFIX): value
        for name, value in given.items()
        if name.startswith(TAG_PREFIX)
    }
    return Options(
        generation=to_generation(given, defaults),
        no_cache=wanted.no_cache,
        language=wanted.language,
        tags=TagOptions(**tags),
    )


def to_generation(given: Mapping[str, Any], defaults: Generation) -> Generation | None:
    """Return the defaults with the given options; None if no option of generation is given."""
    changes = {name: value for name, value in given.items() if name in GENERATION}
    if not changes:
        return None
    wanted = replace(defaults, **changes)
    # A default gives way to an option that contradicts it.
    if wanted.num_beams < wanted.num_captions:
        wanted = replace(wanted, num_beams=wanted.num_captions)
    if wanted.min_new_tokens > wanted.max_new_tokens:
        wanted = replace(wanted, min_new_tokens=wanted.max_new_tokens)
    return wanted
