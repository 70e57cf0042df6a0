"""Alternative texts: one sentence, nothing about the image as such, and no false certainty."""

import csv
import io
from dataclasses import replace

import pytest

from captiond.clients import Client
from captiond.jobs import Captioned, Generation, Lane, SpooledImage
from captiond.messages import Work
from captiond.notation.csvrows import csv_header, csv_row
from captiond.store.results import captioned_from, result_text
from captiond.tags import TagFilter
from captiond.web.schemas import image_result
from captiond.wording.alt_text import alt_text
from captiond.wording.openings import opening_length, without_opening
from captiond.worker.recipe import Recipe

CAPTIONED = Captioned("a photo of a red boat", (), "m", 4, 3, confidence=0.7)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red boat to the left of a yellow sun", "A red boat to the left of a yellow sun."),
        ("there is a picture of a dog", "A dog."),
        ("there are two dogs on a sofa", "Two dogs on a sofa."),
        ("an image of the sun", "The sun."),
        ("a close - up of a person's hand", "A person's hand."),
        ("close up view of a leaf", "A leaf."),
        ("a stock photo showing a street", "A street."),
        ("a painting of a cat", "A painting of a cat."),
        ("a black and white photo of a man", "A black and white photo of a man."),
        ("a photo of", "A photo of."),
        ("a picture", "A picture."),
        ("a dog runs. a cat sleeps.", "A dog runs."),
        ("a sign that says stop!", "A sign that says stop."),
        ('a sign that says "stop."', 'A sign that says "stop".'),
        ('a sign that says "stop." on a pole', 'A sign that says "stop." on a pole.'),
        ('a sign that says "hello! welcome"', 'A sign that says "hello! welcome".'),
        ("a bottle of approx. 5 liters", "A bottle of approx. 5 liters."),
        ("a calendar of dec. 2020", "A calendar of dec. 2020."),
        ("it is raining", "It is raining."),
        ("it is a photo of the sea", "The sea."),
        ("a st. bernard in the snow", "A st. bernard in the snow."),
        ("  a   dog ", "A dog."),
        ("12 eggs", "12 eggs."),
        ("ßig", "ßig."),
    ],
)
def test_an_alternative_text_is_one_sentence_about_what_is_seen(
    caption: str, expected: str
) -> None:
    assert alt_text(caption, 0.9, 0.4) == expected


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.39, "Possibly a red boat."), (0.4, "A red boat."), (None, "A red boat.")],
)
def test_an_unsure_caption_is_hedged(confidence: float | None, expected: str) -> None:
    assert alt_text("a photo of a red boat", confidence, 0.4) == expected


@pytest.mark.parametrize("caption", ["", "  ", " . "])
def test_a_blank_caption_does_not_become_the_text_of_a_decoration(caption: str) -> None:
    assert alt_text(caption, 0.1, 0.4) is None


def test_an_opening_is_found_by_its_length() -> None:
    caption = "There is an image of a boat"
    assert caption[opening_length(caption) :] == without_opening(caption) == "a boat"
    assert opening_length("a boat") == 0


@pytest.mark.parametrize(("hedge_below", "expected"), [(0.0, "A red boat."), (0.8, "Possibly")])
def test_a_result_has_its_alternative_text_whatever_the_cache_has(
    hedge_below: float, expected: str
) -> None:
    recipe = Recipe("m", "f", lambda _: "t", Generation(), TagFilter(), True, hedge_below)
    image = SpooledImage("f", 0, 1, "00")
    work = Work("1", Lane.BULK, image, client=Client("c"))
    for whole in (CAPTIONED, replace(CAPTIONED, cached=True, alt_text="An older one.")):
        outcome = recipe.selected(whole, work)
        assert outcome.caption == CAPTIONED.caption
        assert (outcome.alt_text or "").startswith(expected)


def test_results_and_their_rows_have_it() -> None:
    described = replace(CAPTIONED, alt_text="A red boat, possibly.")
    result = image_result("a.png", None, captioned_from(result_text(described)))
    assert result.get("alt_text") == described.alt_text
    (row,) = csv.DictReader(io.StringIO(csv_header() + csv_row(result), newline=""))
    assert row["alt_text"] == described.alt_text


def test_a_row_has_the_english_caption_of_a_translated_one() -> None:
    spoken = replace(CAPTIONED, caption="rotes Boot", caption_language="de", caption_en="red boat")
    (row,) = csv.DictReader(
        io.StringIO(csv_header() + csv_row(image_result("a.png", None, spoken)), newline="")
    )
    assert (row["caption"], row["caption_language"], row["caption_en"]) == (
        "rotes Boot", "de", "red boat",
    )  # fmt: skip


def test_a_result_of_an_earlier_version_has_none() -> None:
    text = result_text(CAPTIONED).replace(',"alt_text":null', "")
    assert "alt_text" not in text
    assert image_result("a.png", None, captioned_from(text)).get("alt_text", "") is None
