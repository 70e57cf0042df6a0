"""Fills a JSON Schema of a client with what captiond says about an image. Pure.

A model that follows instructions would be forced into the schema token by token. Here, each
property gets its value by its name, such as `caption`, `tags` or `confidence` (`meanings.py`). A
property whose name has no meaning is left out, or gets a neutral value if it is required.

Types, `enum`, `const`, `required`, the bounds of numbers, lengths and numbers of items are
followed, also behind `$ref`, `allOf`, `anyOf` and `oneOf`. Other keywords, such as `pattern`, are
ignored.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from captiond.web.dialects.bounds import count, number_within, text_within
from captiond.web.dialects.findings import Findings
from captiond.web.dialects.meanings import Meaning, Mentions, Subject, meaning, plain_text, texts
from captiond.web.dialects.refusals import SchemaRefused

MAX_DEPTH = 32
# Of the work for one answer, and of the answer: `$ref` and `minItems` can make a small schema huge.
MAX_VALUES = 5000
MAX_ITEMS = 1000  # of one list
CHARACTERS = 64  # of a text that count as one value
OTHERS = ("other", "unknown", "none", "n/a", "")  # how an enum names none of its values
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

ROOT = "#"  # the reference to the whole schema

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filled:
    """A value, and whether it says something about the image. Otherwise it is only neutral.

    `size` is the number of values in it.
    """

    value: Any
    known: bool
    size: int = 1


def fill(schema: Schema, image: Findings) -> Any:
    """Return the value for an image that a schema asks for.

    Raises:
        SchemaRefused: it is no JSON Schema, or it asks for too much.
    """
    return Filler(schema).fill(schema, "", image).value


@dataclass(slots=True)
class Filler:
    """Fills one schema, `root`."""

    root: Schema
    _values: int = 0
    _depth: int = 0
    _followed: list[str] = field(default_factory=lambda: [ROOT])  # what leads to this place
    # By the identity of a subject, which is kept beside. To collect them takes long if the images
    # of a request have a thousand tags, and there may be thousands of options.
    _known: dict[int, tuple[Subject, Mentions]] = field(default_factory=dict)

    def fill(self, schema: Any, name: str, subject: Subject) -> Filled:
        """Return the value for a property named `name` of an image or of one of its tags."""
        self._charge(1)
        if schema is True or schema == {}:
            known = meaning(name, subject)
            return Filled(texts(known) if isinstance(known, list) else known, known is not None)
        if not isinstance(schema, Mapping):
            raise SchemaRefused(f"the JSON schema of {name or 'the answer'!r} is no object")
        self._depth += 1
        filled = self._filled(schema, name, subject)
        self._depth -= 1
        if filled.size > MAX_VALUES:
            raise SchemaRefused("the JSON schema asks for too large an answer")
        return filled

    def _charge(self, number: int) -> None:
        """Count the work for so many values."""
        self._values += number
        if self._depth == MAX_DEPTH or self._values > MAX_VALUES:
            raise SchemaRefused("the JSON schema asks for too many values, or without an end")

    def _charge_options(self, options: Sequence[Any]) -> None:
        """Count the work to compare the options of an enum."""
        # guard: long-options
        self._charge(sum(map(size_of, options)))

    def _mentions(self, subject: Subject) -> Mentions:
        """Return what a subject mentions."""
        if id(subject) not in self._known:
            self._known[id(subject)] = subject, Mentions.of(subject)
        return self._known[id(subject)][1]

    def _merged(self, *parts: Any) -> Schema:
        """Return one schema for several that hold together."""
        for part in parts:
            self._charge(width(part))
        return merged(parts)

    def _filled(self, schema: Schema, name: str, subject: Subject) -> Filled:
        if isinstance(reference := schema.get("$ref"), str):
            return self._follow(reference, schema, name, subject)
        if parts := schemas(schema, "allOf"):
            return self.fill(self._merged(*parts, without(schema, "allOf")), name, subject)
        for keyword in ("anyOf", "oneOf"):
            if parts := schemas(schema, keyword):
                rest = without(schema, keyword)
                return self._best([self._merged(rest, part) for part in parts], name, subject)
        if "const" in schema:
            size = size_of(schema["const"])
            self._charge(size)
            return Filled(schema["const"], known=False, size=size)
        if isinstance(options := schema.get("enum"), list) and options:
            self._charge_options(options)
            return chosen(options, meaning(name, subject), self._mentions(subject))
        types = types_of(schema)
        if len(types) > 1:
            options = [{**schema, "type": each} for each in types]
            return self._best(options, name, subject)
        return self._typed(types[0], schema, name, subject)

    def _typed(self, kind: str, schema: Schema, name: str, subject: Subject) -> Filled:
        """Fill a schema of one type."""
        known = meaning(name, subject)
        match kind:
            case "object":
                return self._object(schema, subject)
            case "array":
                return self._array(schema, name, subject)
            case "string":
                text = text_within(schema, plain_text(known))
                return Filled(text, known is not None, size_of(text))
            case "boolean":
                return Filled(value=False, known=False)
            case "null":
                return Filled(None, known=False)
            case _:
                number = known if isinstance(known, float | int) else None
                whole = kind == "integer"
                return Filled(number_within(schema, number, whole=whole), number is not None)

    def _follow(self, reference: str, schema: Schema, name: str, subject: Subject) -> Filled:
        """Fill the schema that a reference names. What stands beside the reference holds too."""
        target = self._merged(resolved(self.root, reference), without(schema, "$ref"))
        if reference in self._followed:  # it contains itself: no more than it has to
            return Filled(self.fill(needed(target), name, subject).value, known=False)
        with self._following(reference):
            return self.fill(target, name, subject)

    @contextmanager
    def _following(self, reference: str) -> Iterator[None]:
        self._followed.append(reference)
        yield
        self._followed.pop()

    def _repeats(self, schema: Any) -> bool:
        """Return whether a schema is one that contains this place."""
        return isinstance(schema, Mapping) and schema.get("$ref") in self._followed

    def _best(self, options: Sequence[Schema], name: str, subject: Subject) -> Filled:
        """Fill the first of several schemas that gets a value with a meaning, else null."""
        filled = []
        others = [option for option in options if not self._repeats(option)]
        for option in others or options:  # if there is a way out of a schema that contains itself
            filled.append(self.fill(option, name, subject))
            if filled[-1].known:
                return filled[-1]
        return next((each for each in filled if each.value is None), filled[0])

    def _object(self, schema: Schema, subject: Subject) -> Filled:
        """Fill the properties that have a meaning or are required."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise SchemaRefused("the JSON schema has properties or required of a wrong type")
        others = schema.get("additionalProperties") or True
        needed_names = set(map(str, required))
        values: dict[str, Any] = {}
        known, size = False, 1
        for name in dict.fromkeys([*properties, *map(str, required)]):
            filled = self.fill(properties.get(name, others), name, subject)
            known |= filled.known
            if filled.known or name in needed_names:
                values[name] = filled.value
                size += filled.size
        return Filled(values, known, size)

    def _array(self, schema: Schema, name: str, subject: Subject) -> Filled:
        """Fill a list: with the tags if its name stands for them, else with one item."""
        items = schema.get("items", True)
        known = meaning(name, subject)
        if places := schemas(schema, "prefixItems"):
            every = [self.fill(each, name, subject) for each in places]
        elif self._repeats(items):
            every = []
        elif isinstance(known, list):
            every = [self.fill(items, name, each) for each in known[:MAX_ITEMS]]
            every = [each for each in every if each.known]
        elif options := options_of_items(items):
            self._charge_options(options)
            every = [
                Filled(each, known=True) for each in options if each in self._mentions(subject)
            ]
        else:
            every = [each for each in [self.fill(items, name, subject)] if each.known]
        if options_of_items(items) or schema.get("uniqueItems"):
            every = distinct(every)
        every = every[: count(schema, "maxItems", MAX_ITEMS)]
        missing = min(count(schema, "minItems", 0), MAX_ITEMS) - len(every)
        if missing > 0:
            every += [self.fill(items, name, subject)] * missing
        says = any(each.known for each in every) or isinstance(known, list)
        return Filled([each.value for each in every], says, 1 + sum(each.size for each in every))


def distinct(every: list[Filled]) -> list[Filled]:
    """Return those whose values are different, each as it comes first."""
    values = [each.value for each in every]
    return [each for at, each in enumerate(every) if each.value not in values[:at]]


def chosen(options: Sequence[Any], known: Meaning, mentions: Mentions) -> Filled:
    """Return the option that the image suggests, or else one that says as little as possible."""
    wanted = plain_text(known).casefold() if isinstance(known, str) else None
    same = (each for each in options if isinstance(each, str) and each.casefold() == wanted)
    mentioned = (each for each in options if each in mentions)
    for option in (*same, *mentioned):
        return Filled(option, known=True)
    neutral = [
        option
        for option in options
        if option is None or (isinstance(option, str) and option.casefold() in OTHERS)
    ]
    option = (neutral or options)[0]
    return Filled(option, known=False, size=size_of(option))


def size_of(value: object) -> int:
    """Return how many values a text, or a value that the client has sent, counts as."""
    text = value if isinstance(value, str) else json.dumps(value)
    return 1 + len(text) // CHARACTERS


def options_of_items(items: Any) -> list[Any]:
    """Return the values that items of a list may have, or an empty list if all are allowed."""
    options = items.get("enum") if isinstance(items, Mapping) else None
    return options if isinstance(options, list) else []


# ---------------------------------------------------------------- schemas


def types_of(schema: Schema) -> list[str]:
    """Return the types that a schema allows. If it names none, they follow from its keywords.

    Raises:
        SchemaRefused: it has a type that JSON Schema does not have.
    """
    named = schema.get("type")
    if named is None:
        if "properties" in schema or "required" in schema:
            return ["object"]
        return ["array"] if "items" in schema or "prefixItems" in schema else ["string"]
    names = named if isinstance(named, list) else [named]
    for name in names or [named]:
        if name not in TYPES:
            raise SchemaRefused(f"the JSON schema has the unknown type {str(name)[:60]!r}")
    return names


def schemas(schema: Schema, keyword: str) -> list[Any]:
    """Return the schemas in the list of a keyword."""
    parts = schema.get(keyword)
    return parts if isinstance(parts, list) else []


def without(schema: Schema, keyword: str) -> Schema:
    """Return a schema without one of its keywords."""
    return {name: value for name, value in schema.items() if name != keyword}


def merged(parts: Sequence[Any]) -> Schema:
    """Return one schema for several that hold together. Later ones go before earlier ones.

    Raises:
        SchemaRefused: one of them is no object.
    """
    result: dict[str, Any] = {}
    for part in parts:
        if part is True:
            continue
        if not isinstance(part, Mapping):
            raise SchemaRefused("the JSON schema has a part that is no object")
        properties = {**dict_of(result, "properties"), **dict_of(part, "properties")}
        required = [*schemas(result, "required"), *schemas(part, "required")]
        result |= part
        if properties:
            result["properties"] = properties
        if required:
            result["required"] = required
    return result


def width(schema: Any) -> int:
    """Return how many keywords and properties a schema has."""
    if not isinstance(schema, Mapping):
        return 1
    return len(schema) + len(dict_of(schema, "properties")) + len(schemas(schema, "required"))


def dict_of(schema: Schema, keyword: str) -> Schema:
    value = schema.get(keyword)
    return value if isinstance(value, Mapping) else {}


def needed(schema: Schema) -> Schema:
    """Return a schema that asks for no more than this one requires."""
    required = set(map(str, schemas(schema, "required")))
    properties = {
        name: value for name, value in dict_of(schema, "properties").items() if name in required
    }
    return {**schema, "properties": properties, "maxItems": count(schema, "minItems", 0)}


def resolved(root: Any, reference: str) -> Any:
    """Return the part of the schema that a reference such as `#/$defs/Tag` names.

    Raises:
        SchemaRefused: there is none. References to other documents are never followed.
    """
    target = root
    start, *names = reference.split("/")
    for name in names:
        key = name.replace("~1", "/").replace("~0", "~")
        target = target.get(key) if isinstance(target, Mapping) else None
    if start != ROOT or target is None:
        raise SchemaRefused(f"the JSON schema has nothing at {reference[:60]!r}")
    return target
