"""JSON schemas of clients, filled with a caption. A validator of others judges the answers."""

import contextlib
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.jobs import Caption, Captioned
from captiond.tags import Category, Kind, Tag
from captiond.web.dialects.filling import MAX_DEPTH, fill
from captiond.web.dialects.findings import Findings
from captiond.web.dialects.refusals import SchemaRefused

CAPTION = "a black cat on a red chair"
OUTCOME = Captioned(
    caption=CAPTION,
    tags=("black cat", "cat", "chair", "red chair"),
    model="m",
    width=640,
    height=480,
    tag_details=(
        Tag("black cat", "cat", Category.ANIMAL, Kind.PHRASE, 2, 11),
        Tag("cats", "cat", Category.ANIMAL, Kind.NOUN, 8, 11, 0.9),
        Tag("red chair", "chair", Category.FURNITURE, Kind.PHRASE, 17, 26),
        Tag("chair", "chair", Category.FURNITURE, Kind.NOUN, 21, 26),
        Tag("idea", "idea", Category.OTHER, Kind.NOUN, 0, 1),
    ),
    score=-0.25,
    confidence=0.7788,
)
IMAGE = Findings.of(OUTCOME)
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
NUMBER = {"type": "number"}


def filled(schema: dict[str, Any], image: Findings = IMAGE) -> Any:
    """Return the answer by a schema, which must be valid by it."""
    answer = fill(schema, image)
    jsonschema_rs.validate(schema, answer)
    json.dumps(answer, allow_nan=False)
    return answer


def of(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these properties, all of them required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


# ---------------------------------------------------------------- what names stand for


@pytest.mark.parametrize(
    "name",
    ["caption", "description", "alt_text", "altText", "alt", "Summary", "image-description"],
)
def test_names_of_captions(name: str) -> None:
    assert filled(of(**{name: TEXT})) == {name: CAPTION}


def test_a_title_begins_with_a_capital() -> None:
    assert filled(of(title=TEXT)) == {"title": "A black cat on a red chair"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tags", ["black cat", "cats", "red chair", "chair", "idea"]),
        ("keywords", ["black cat", "cats", "red chair", "chair", "idea"]),
        ("labels", ["cat", "chair", "idea"]),
        ("objects", ["cat", "chair", "idea"]),
        ("categories", ["animal", "furniture"]),
        ("animals", ["cat"]),
        ("people", []),
        ("captions", [CAPTION]),
        ("prices", []),
    ],
)
def test_names_of_lists(name: str, values: list[str]) -> None:
    assert filled(of(**{name: TEXTS})) == {name: values}


def test_lists_of_objects() -> None:
    label = of(name=TEXT, confidence=NUMBER, topicality=NUMBER, categories=TEXTS)
    answer = filled(of(labels={"type": "array", "items": label}))
    assert answer["labels"][0] == {
        "name": "cat",
        "confidence": 0.9,
        "topicality": 1,
        "categories": ["animal"],
    }
    assert [each["categories"] for each in answer["labels"]] == [["animal"], ["furniture"], []]


def test_a_caption_may_be_an_object() -> None:
    caption = of(text=TEXT, confidence=NUMBER)
    assert filled(of(caption=caption)) == {"caption": {"text": CAPTION, "confidence": 0.7788}}


def test_a_list_that_is_wanted_as_text() -> None:
    assert filled(of(categories=TEXT)) == {"categories": "animal, furniture"}


def test_a_text_that_is_wanted_as_a_list() -> None:
    assert filled(of(description=TEXTS)) == {"description": [CAPTION]}


def test_the_answer_itself() -> None:
    assert filled(TEXT) == CAPTION
    assert filled({"type": "array", "items": of(caption=TEXT)}) == [{"caption": CAPTION}]


def test_alternatives() -> None:
    several = (Caption("one", -0.1), Caption("two", -0.2))
    outcome = Captioned("one", (), "m", 1, 1, captions=several)
    assert filled(of(captions=TEXTS), Findings.of(outcome)) == {"captions": ["one", "two"]}


# ---------------------------------------------------------------- what has no meaning


def test_what_is_not_known_is_left_out_or_neutral() -> None:
    unknown = {
        "price": NUMBER,
        "is_nsfw": {"type": "boolean"},
        "author": TEXT,
        "note": {"type": ["string", "null"]},
        "where": {"type": "object", "properties": {"city": TEXT}},
    }
    schema = {"type": "object", "properties": {"caption": TEXT, **unknown}}
    assert filled(schema) == {"caption": CAPTION}
    assert filled({**schema, "required": list(unknown)}) == {
        "caption": CAPTION,
        "price": 0,
        "is_nsfw": False,
        "author": "",
        "note": None,
        "where": {},
    }


def test_nothing_is_said_about_what_captiond_does_not_judge() -> None:
    label = of(name=TEXT, nsfw={"type": "boolean"}, nsfw_confidence=NUMBER)
    (first, *_) = filled(of(labels={"type": "array", "items": label}))["labels"]
    assert first == {"name": "cat", "nsfw": False, "nsfw_confidence": 0}


def test_confidences_that_are_not_known() -> None:
    image = Findings.of(Captioned("a cat", (), "m", 1, 1))
    schema = {"type": "object", "properties": {"caption": TEXT, "confidence": NUMBER}}
    assert filled(schema, image) == {"caption": "a cat"}
    assert filled({**schema, "required": ["confidence"]}, image)["confidence"] == 0


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "number"}, 0.7788),
        ({"type": "number", "maximum": 1}, 0.7788),
        ({"type": "integer"}, 78),
        ({"type": "integer", "maximum": 100}, 78),
        ({"type": "integer", "minimum": 1, "maximum": 5}, 4),
        ({"type": "number", "multipleOf": 0.25}, 0.75),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": "number", "exclusiveMaximum": 0.5}, 0.0),
        ({"type": "string"}, "0.7788"),
    ],
)
def test_a_confidence_in_the_scale_that_is_asked_for(schema: dict[str, Any], value: float) -> None:
    assert (
        filled(of(confidence=schema))["confidence"] == pytest.approx(value)
        or value == (filled(of(confidence=schema))["confidence"])
    )


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"minimum": 3}, 3),
        ({"exclusiveMinimum": 0}, 1),
        ({"maximum": -2}, -2),
        ({"minimum": 4, "multipleOf": 3}, 6),
    ],
)
def test_unknown_numbers_are_within_their_bounds(schema: dict[str, Any], value: int) -> None:
    assert filled(of(price={"type": "integer", **schema}))["price"] == value


@pytest.mark.parametrize("step", [5e-324, 1e308, 0])
def test_numbers_at_the_ends_of_what_a_double_holds(step: float) -> None:
    """The answer is a number, or the schema is refused. Validators may judge these differently."""
    for kind in ("number", "integer"):
        for least in (1, -1e308, 1e308):
            schema = {"type": kind, "minimum": least, "multipleOf": step}
            with contextlib.suppress(SchemaRefused):
                assert fill(schema, IMAGE) >= least


def test_lengths() -> None:
    assert filled(of(caption={**TEXT, "maxLength": 14}))["caption"] == "a black cat on"
    assert filled(of(caption={**TEXT, "maxLength": 12}))["caption"] == "a black cat"
    assert filled(of(caption={**TEXT, "maxLength": 0}))["caption"] == ""
    assert len(filled(of(code={**TEXT, "minLength": 3}))["code"]) == 3
    assert filled(of(tags={**TEXTS, "maxItems": 1}))["tags"] == ["black cat"]
    assert len(filled(of(people={**TEXTS, "minItems": 2}))["people"]) == 2


def test_values_of_which_one_is_to_be_chosen() -> None:
    def choice(*options: Any, name: str = "mood") -> Any:
        return filled(of(**{name: {"enum": list(options)}}))[name]

    assert choice("dog", "CAT") == "CAT"
    assert choice("dog", "red chair", "other") == "red chair"
    assert choice("sunny", "other") == "other"
    assert choice("sunny", None) is None
    assert choice("sunny", "rainy") == "sunny"
    assert choice("vehicle", "furniture", "animal", name="category") == "animal"
    assert filled(of(category={"const": 7})) == {"category": 7}


def test_a_vocabulary() -> None:
    options = ["dog", "chair", "cat", "black cat"]
    assert filled(of(tags={"type": "array", "items": {"enum": options}}))["tags"] == [
        "black cat",
        "cat",
        "chair",
    ]
    found = filled(of(scene={"type": "array", "items": {"type": "string", "enum": options}}))
    assert found["scene"] == ["chair", "cat", "black cat"]


# ---------------------------------------------------------------- references and combinations


def test_references() -> None:
    schema = {
        "$defs": {"Tag": of(name=TEXT), "a/b~c": TEXT},
        **of(tags={"type": "array", "items": {"$ref": "#/$defs/Tag"}}),
    }
    assert filled(schema)["tags"][0] == {"name": "black cat"}
    schema["properties"] = {"caption": {"$ref": "#/$defs/a~1b~0c"}}
    assert filled({**schema, "required": ["caption"]}) == {"caption": CAPTION}


def test_a_schema_that_contains_itself() -> None:
    child = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    assert filled(of(caption=TEXT, child=child)) == {"caption": CAPTION, "child": None}
    children = {"type": "array", "items": {"$ref": "#"}}
    assert filled(of(caption=TEXT, children=children)) == {"caption": CAPTION, "children": []}


def test_combinations() -> None:
    either = {"anyOf": [{"type": "boolean"}, TEXTS, {"type": "null"}]}
    assert filled(of(tags=either))["tags"][0] == "black cat"
    assert filled(of(price=either))["price"] is None
    both = {"allOf": [of(caption=TEXT), of(tags=TEXTS)], "type": "object"}
    assert set(filled(both)) == {"caption", "tags"}
    assert filled(of(caption={"description": "of any type"})) == {"caption": CAPTION}
    assert filled({"type": "array", "prefixItems": [TEXT, NUMBER]}) == [CAPTION, 0]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "tree"},
        {"type": []},
        {"type": 3},
        {"properties": []},
        {"required": "all"},
        {"properties": {"a": 1}, "required": ["a"]},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema.json"},
        {"allOf": [3]},
        {"type": "string", "minLength": -1},
        {"type": "string", "minLength": 10**9},
        {"type": "number", "minimum": 2, "maximum": 1},
        {"type": "number", "minimum": 10**400},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
    ids=str,
)
def test_schemas_that_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaRefused):
        fill(schema, IMAGE)


def test_a_small_schema_that_asks_for_a_huge_answer() -> None:
    two = {"type": "object", "required": ["a", "b"]}
    defs = {
        f"d{n}": {**two, "properties": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"}}
        for n in range(MAX_DEPTH)
    }
    with pytest.raises(SchemaRefused):
        fill({"$defs": {**defs, f"d{MAX_DEPTH}": TEXT}, "$ref": "#/$defs/d0"}, IMAGE)


# ---------------------------------------------------------------- any schema

NAMES = st.sampled_from(
    ["caption", "title", "tags", "labels", "categories", "confidence", "name", "topicality", "x"]
)
BOUNDS = st.fixed_dictionaries(
    {}, optional={"minimum": st.integers(-5, 0), "maximum": st.integers(1, 200)}
)
LENGTHS = st.fixed_dictionaries(
    {}, optional={"minLength": st.integers(0, 5), "maxLength": st.integers(5, 30)}
)
SIMPLE = st.one_of(
    st.builds(lambda lengths: {"type": "string", **lengths}, LENGTHS),
    st.builds(
        lambda kind, bounds: {"type": kind, **bounds},
        st.sampled_from(["number", "integer", ["integer", "null"]]),
        BOUNDS,
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["null", "string"]}]),
    st.builds(lambda options: {"enum": options}, st.lists(NAMES, min_size=1, max_size=3)),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return schemas of objects and lists with these schemas in them."""
    objects = st.dictionaries(NAMES, inner, max_size=4).flatmap(
        lambda properties: st.builds(
            lambda required, closed: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                **({"additionalProperties": False} if closed else {}),
            },
            st.sets(st.sampled_from(sorted(properties))) if properties else st.just(set()),
            st.booleans(),
        )
    )
    lists = st.builds(
        lambda items, least, most: {
            "type": "array",
            "items": items,
            "minItems": least,
            "maxItems": least + most,
        },
        inner,
        st.integers(0, 2),
        st.integers(0, 3),
    )
    either = st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))
    return st.one_of(objects, lists, either)


@given(st.recursive(SIMPLE, containers, max_leaves=12))
def test_every_answer_is_valid_by_its_schema(schema: dict[str, Any]) -> None:
    filled(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 1000, "items": {"type": "array", "minItems": 1000}},
        {"type": "array", "minItems": 1000, "items": {"const": "long" * 1000}},
        of(**{f"x{n}": TEXT for n in range(10_000)}),
        {"anyOf": [{"type": "boolean"}] * 10_000},
        {"allOf": [{"properties": {f"x{n}": TEXT for n in range(1000)}}] * 1000},
        {"properties": {f"x{n}": {"enum": ["long" * 1000]} for n in range(100)}},
        {"properties": {f"x{n}": {"const": "long" * 1000} for n in range(100)}},
    ],
    ids=[
        "lists in lists",
        "long texts",
        "properties",
        "any of many",
        "all of many",
        "long options",
        "long constants",
    ],
)
def test_the_work_for_a_schema_and_its_answer_are_limited(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaRefused, match="too"):
        fill(schema, IMAGE)
