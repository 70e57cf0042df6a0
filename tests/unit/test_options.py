"""The options of a request: what its form fields ask for, and which fields are refused."""

import dataclasses
from dataclasses import replace

import pytest
from pydantic import ValidationError

from captiond.jobs import Generation, Options
from captiond.request_options import RequestOptions
from captiond.settings.config import Settings
from captiond.settings.option_settings import (
    CaptionSettings,
    GenerationSettings,
    TagSettings,
    TranslationSettings,
)
from captiond.tags import Category, Kind, TagOptions
from captiond.web.async_tasks.callback_url import FIELD
from captiond.web.options import MAX_COMPARED, options_of
from captiond.web.problems import InvalidRequest

RULES = CaptionSettings().search_rules
GERMAN = Settings(translation=TranslationSettings(models={"de": "a/b"}))
HARD_LIMIT = replace(RULES, finish_tokens=0)


def problems_of(
    fields: dict[str, str], settings: Settings | None = None, *, also: tuple[str, ...] = ()
) -> list[dict[str, object]]:
    with pytest.raises(InvalidRequest) as caught:
        options_of(fields, settings or Settings(), also=also)
    return caught.value.problems


def test_no_fields_ask_for_nothing() -> None:
    assert options_of({}, Settings()) == Options()
    assert options_of({"num_beams": " ", "language": ""}, Settings()) == Options()


def test_every_option_is_read() -> None:
    fields = {
        "prompt": "a photograph of",
        "num_beams": "4",
        "max_new_tokens": "30",
        "min_new_tokens": "5",
        "repetition_penalty": "1.5",
        "num_captions": "3",
        "no_repeat_ngram_size": "4",
        "context": "place: Lisbon",
        "rerank": "true",
        "vocabulary": "cat, fire truck",
        "vocabulary_threshold": "2.5",
        "no_cache": "true",
        "language": "en",
        "caption_language": "de",
        "tag_kinds": "noun,adjective,vocabulary",
        "tag_categories": '["animal"]',
        "tag_deny": "cat, d*g",
        "tag_allow": "bird",
        "tag_min_length": "3",
        "tag_max_number": "9",
    }
    assert set(fields) == set(RequestOptions.model_fields)
    assert options_of(fields, GERMAN) == Options(
        generation=Generation(
            "a photograph of",
            4,
            30,
            5,
            1.5,
            3,
            4,
            "place: Lisbon",
            HARD_LIMIT,
            ("cat", "fire truck"),
            2.5,
            rerank=True,
        ),
        no_cache=True,
        language="en",
        caption_language="de",
        tags=TagOptions(
            kinds=(Kind.NOUN, Kind.ADJECTIVE, Kind.VOCABULARY),
            categories=(Category.ANIMAL,),
            deny=("cat", "d*g"),
            allow=("bird",),
            min_length=3,
            max_number=9,
        ),
    )


def test_what_a_request_leaves_out_comes_from_the_settings() -> None:
    settings = Settings(generation=GenerationSettings(num_beams=2, min_new_tokens=10))
    usual = settings.default_generation
    assert (usual.num_beams, usual.min_new_tokens, usual.rules) == (2, 10, RULES)
    assert options_of({"prompt": "a"}, settings).generation == replace(usual, prompt="a")
    # A setting gives way to an option that contradicts it.
    assert options_of({"num_captions": "3"}, settings).generation == replace(
        usual, num_beams=3, num_captions=3
    )
    assert options_of({"max_new_tokens": "5"}, settings).generation == replace(
        usual, max_new_tokens=5, min_new_tokens=5, rules=HARD_LIMIT
    )


def test_a_client_that_chooses_a_limit_gets_no_more_tokens() -> None:
    usual = Settings().default_generation
    assert (usual.max_new_tokens, usual.longest) == (20, 30)
    for limit, longest in (("19", 19), ("20", 30), ("21", 21)):
        generation = options_of({"max_new_tokens": limit}, Settings()).generation
        assert generation is not None
        assert generation.longest == longest


def test_the_options_are_those_of_the_jobs_and_of_the_settings() -> None:
    options = set(RequestOptions.model_fields)
    assert {field.name for field in dataclasses.fields(Generation)} - {"rules"} < options
    assert {f"tag_{field.name}" for field in dataclasses.fields(TagOptions)} < options
    assert set(GenerationSettings.model_fields) < options


@pytest.mark.parametrize("name", GenerationSettings.model_fields)
def test_a_setting_of_generation_is_defined_as_its_option(name: str) -> None:
    assert schema(GenerationSettings, name) == schema(RequestOptions, name)


@pytest.mark.parametrize("name", ["kinds", "categories", "deny", "allow", "min_length"])
def test_a_setting_of_tags_is_described_as_its_option(name: str) -> None:
    setting, option = schema(TagSettings, name), schema(RequestOptions, f"tag_{name}")
    assert str(option.pop("description")).startswith(str(setting.pop("description")))
    for each in (setting, option):
        del each["title"]
        each.pop("maxItems", None)  # a request may have fewer patterns than the settings
    assert setting == option


def schema(
    model: type[RequestOptions | GenerationSettings | TagSettings], name: str
) -> dict[str, object]:
    schema: dict[str, object] = model.model_json_schema()["properties"][name]
    return schema


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("num_beam", "num_beams"),
        ("numBeams", "num_beams"),
        ("num-beams", "num_beams"),
        ("Prompt", "prompt"),
        ("promt", "prompt"),
        ("langauge", "language"),
        ("max_tokens", "max_new_tokens"),
        ("tag_category", "tag_categories"),
        ("nocache", "no_cache"),
        ("calback_url", "callback_url"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_right_name(name: str, near: str) -> None:
    assert problems_of({name: "1"}, also=(FIELD,)) == [
        {
            "type": "extra_forbidden",
            "loc": ["body", name],
            "msg": f"Extra inputs are not permitted; did you mean {near}?",
            "input": "1",
        }
    ]


@pytest.mark.parametrize(
    "name",
    [
        "file", "filename", "name", "id", "image_id", "user", "user_id", "session", "token",
        "model", "model_name", "format", "type", "title", "description", "caption", "captions",
        "text", "tags", "lang", "locale", "language_code", "prompt_id", "url", "timestamp",
        "max_length", "temperature", "cache", "submit", "csrf_token", "",
    ],
)  # fmt: skip
def test_any_other_field_is_ignored(name: str) -> None:
    assert options_of({name: "x"}, Settings(), also=(FIELD,)) == Options()
    assert options_of({name: "x", "no_cache": "1"}, Settings()) == Options(no_cache=True)


def test_hostile_names_are_not_compared() -> None:
    long = {"x" * 8000 + str(number): "x" for number in range(100)}
    assert options_of(long, Settings()) == Options()
    close = {f"num_bea{number}ms": "x" for number in range(100)}
    assert len(problems_of(close)) == MAX_COMPARED


def test_a_callback_url_is_refused_where_it_has_no_meaning() -> None:
    assert options_of({FIELD: "https://a.example"}, Settings(), also=(FIELD,)) == Options()
    (problem,) = problems_of({FIELD: "https://a.example"})
    assert (problem["type"], problem["loc"]) == ("extra_forbidden", ["body", FIELD])
    assert "POST /async-batch-caption" in str(problem["msg"])


def test_all_problems_are_reported_at_once() -> None:
    fields = {"num_beam": "2", "num_beams": "9", "tag_kinds": "verb", "unknown": "x"}
    problems = problems_of(fields)
    assert [(problem["type"], problem["loc"]) for problem in problems] == [
        ("extra_forbidden", ["body", "num_beam"]),
        ("less_than_equal", ["body", "num_beams"]),
        ("enum", ["body", "tag_kinds", 0]),
    ]
    assert all(set(problem) == {"type", "loc", "msg", "input"} for problem in problems)


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "0", "-1", "1e-310", "5e-324", "1e999"])
def test_a_penalty_is_a_number_that_makes_sense(value: str) -> None:
    """The loop over tokens would otherwise compare what is no number."""
    (problem,) = problems_of({"repetition_penalty": value})
    assert problem["loc"] == ["body", "repetition_penalty"]
    with pytest.raises(InvalidRequest):
        options_of({"repetition_penalty": float(value)}, Settings(), typed=True)
    with pytest.raises(ValidationError):
        GenerationSettings.model_validate({"repetition_penalty": float(value)})


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ({"num_beams": "2", "num_captions": "3"}, "num_captions", "at most num_beams, which is 2"),
        ({"min_new_tokens": "21"}, "min_new_tokens", "at most max_new_tokens, which is 20"),
        ({"min_new_tokens": "9", "max_new_tokens": "8"}, "min_new_tokens", "which is 8"),
        ({"language": "fr"}, "language", "there is one for: en"),
    ],
)
def test_options_that_contradict_one_another(
    fields: dict[str, str], name: str, message: str
) -> None:
    (problem,) = problems_of(fields)
    assert (problem["type"], problem["loc"]) == (name, ["body", name])
    assert problem["input"] == fields[name]
    assert message in str(problem["msg"])


def test_a_language_of_captions_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    (problem,) = problems_of({"caption_language": "fr"}, GERMAN)
    assert (problem["type"], problem["loc"]) == ("language", ["body", "caption_language"])
    assert problem["input"] == "fr"
    assert problem["msg"] == "Input should be one of these languages: en, de"
    (problem,) = problems_of({"caption_language": "de"})
    assert problem["msg"] == "Input should be one of these languages: en"
    assert options_of({"caption_language": "en"}, Settings()) == Options(caption_language="en")


def test_the_tags_of_a_translated_caption_have_no_language_of_their_own() -> None:
    pipelines = {"en": "captiond/english", "nl": "nl_core_news_sm"}
    settings = GERMAN.model_copy(update={"tags": TagSettings(pipelines=pipelines)})
    (problem,) = problems_of({"caption_language": "de", "language": "nl"}, settings)
    assert problem["loc"] == ["body", "language"]
    assert "Tags of captions in de are translated from English" in str(problem["msg"])
    german = settings.translation.model_copy(update={"language": "de"})
    by_default = settings.model_copy(update={"translation": german})
    assert problems_of({"language": "nl"}, by_default)
    asked = {"caption_language": "en", "language": "nl"}
    assert options_of(asked, by_default) == Options(language="nl", caption_language="en")
