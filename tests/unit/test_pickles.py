"""The short form in which messages are pickled."""

from dataclasses import fields
from typing import Any

import pytest

from captiond.clients import Client
from captiond.errors import CorruptImage
from captiond.jobs import Captioned, Generation, Lane, Options, Refused, SpooledImage
from captiond.messages import Finished, Message, Timings, Work
from captiond.processes.pickles import MESSAGES, PARTS, pickled, unpickled
from captiond.tags import Category, Kind, Tag, TagOptions

TAGS = tuple(
    Tag(f"red {name}", name, Category.OTHER, Kind.PHRASE, 2, 9, confidence=0.5)
    for name in ("horse", "dog")
)
CAPTIONED = Captioned(
    "a red horse", ("dog", "horse"), "model", 640, 480, tag_details=TAGS, score=-0.3, notes=("n",)
)
OPTIONS = Options(Generation("a photo of", 3), True, "de", tags=TagOptions(deny=("dog*",)))


@pytest.mark.parametrize(
    "message",
    [
        Work(
            "t",
            Lane.BULK,
            SpooledImage("file", 3, 10, "sha"),
            options=OPTIONS,
            client=Client("a", 2.0),
        ),
        Finished("t", CAPTIONED, Timings(1, 2, 3, 4, 5)),
        Finished("t", Refused.of(CorruptImage("no header"))),
    ],
    ids=["work", "captioned", "refused"],
)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    body = pickled(message)
    assert unpickled(body) == message
    assert b"_dataclass_setstate" not in body
    assert b"__setstate__" not in body


@pytest.mark.parametrize("record", [*MESSAGES, *PARTS])
def test_all_fields_of_a_record_are_arguments_of_its_class(record: type[Any]) -> None:
    assert len(fields(record)) > 1
    assert all(field.init for field in fields(record))
