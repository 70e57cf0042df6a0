"""Vocabularies: their files, their templates, their place in requests, in results and in costs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captiond.captioners.families import load_captioner
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.cli.captioning.service_flags import texts_of
from captiond.errors import SettingsError
from captiond.jobs import Captioned, Generation, Lane, Options, SpooledImage
from captiond.messages import Work
from captiond.settings.config import Settings
from captiond.settings.option_settings import TagSettings
from captiond.tagging.vocabulary_tags import tag_of, vocabulary_of
from captiond.tags import Category, Kind, Tag, TagFilter, merged
from captiond.vocabulary import (
    MOST_TAGS,
    ScoredTag,
    Template,
    Vocabulary,
    VocabularyTag,
    read_tags,
    tokens_read,
)
from captiond.web.dialects.findings import Findings
from captiond.web.options import options_of
from captiond.web.problems import InvalidRequest
from captiond.web.schemas import tag_detail
from captiond.worker.loading import checked_vocabulary
from captiond.worker.recipe import Recipe
from tests.toy import toy_family, write_toy

CPU = Placement(torch.device("cpu"), "fp32")
TEMPLATE = Template.parse("a photo of a {tag}")
CAT = VocabularyTag("cat")
VOCABULARY = Vocabulary((CAT, VocabularyTag("dog", threshold=9.0)), TEMPLATE, 4.0)
RECIPE = Recipe("m", "f", lambda _: "en", Generation(), TagFilter(), True)
WITH_VOCABULARY = replace(RECIPE, vocabulary=VOCABULARY)
WORK = Work("t", Lane.BULK, SpooledImage("s", 0, 1, "sha"))


def asking(**generation: Any) -> Work:
    return replace(WORK, options=Options(generation=Generation(**generation)))


# ---------------------------------------------------------------- files


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tags.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_has_one_tag_on_each_line(tmp_path: Path) -> None:
    path = written(
        tmp_path, "cat\n\n# pets\nGolden  Retriever = animal\nsunset=nature, 2.5 # warm\nrain = 3\n"
    )
    assert read_tags(path) == (
        VocabularyTag("cat"),
        VocabularyTag("Golden Retriever", Category.ANIMAL),
        VocabularyTag("sunset", Category.NATURE, 2.5),
        VocabularyTag("rain", None, 3.0),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no tag"),
        ("# nothing", "has no tag"),
        ("cat\ndog = mammal", "line 2: 'mammal' is neither a category nor a threshold"),
        ("cat = animal, high", "line 1: 'high' is neither"),
        ("cat = animal, nan", "line 1: 'nan' is neither"),
        ("cat = animal, inf", "line 1: 'inf' is neither"),
        ("cat = animal, 1, 2", "more than a category and a threshold"),
        ("cat =", "line 1: '' is neither"),
        ("= animal", "line 1: '' has no letter"),
        ("...", "line 1: '...' has no letter"),
        ("cat\n\nCAT", "line 3: 'CAT' is already on an earlier line"),
        ("x" * 101, "line 1: the tag .* has more than 100 characters"),
        (
            "\n".join(f"tag {n}" for n in range(MOST_TAGS + 1)),
            "has 5001 tags; at most 5000 are allowed",
        ),
    ],
)
def test_the_error_says_what_is_wrong_with_a_file(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=problem) as caught:
        read_tags(path)
    assert str(caught.value).startswith(f"tags.vocabulary = {path}: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_tags(tmp_path / "missing")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_tags(tmp_path / "latin")


def test_the_vocabulary_of_the_settings(tmp_path: Path) -> None:
    path = written(tmp_path, "cat\n")
    plain = vocabulary_of(TagSettings(vocabulary=path))
    assert (plain.tags, plain.threshold, plain.scorer) == ((CAT,), 4.0, "likelihood")
    by_matching = vocabulary_of(TagSettings(vocabulary=path, vocabulary_scorer="matching"))
    assert by_matching.threshold == 0.0
    assert vocabulary_of(TagSettings(vocabulary_threshold=1.0)).tags == ()


# ---------------------------------------------------------------- templates


@pytest.mark.parametrize(
    ("template", "tag", "text"),
    [
        ("a photo of a {tag}", "cat", "a photo of a cat"),
        ("a photo of a {tag}", "orange cat", "a photo of an orange cat"),
        ("an {tag} in the picture", "cat", "a cat in the picture"),
        ("the {tag}", "apple", "the apple"),
    ],
)
def test_a_template_has_the_right_article(template: str, tag: str, text: str) -> None:
    assert Template.parse(template).filled(tag) == text


@pytest.mark.parametrize("template", ["", "a photo", "{tag}", "a {tag} and a {tag}", "  {tag} x"])
def test_a_template_needs_one_place_and_a_word_before_it(template: str) -> None:
    with pytest.raises(ValueError, match="tag"):
        Template.parse(template)
    with pytest.raises(ValueError, match="vocabulary_template"):
        Settings.model_validate({"tags": {"vocabulary_template": template}})


# ---------------------------------------------------------------- requests


def test_a_request_has_its_own_vocabulary() -> None:
    options = options_of({"vocabulary": "cat,  red  fox ,Cat", "tag_deny": "x"}, Settings())
    assert options.generation is not None
    assert options.generation.vocabulary == ("cat", "red fox")
    typed = options_of({"vocabulary": ["a, b"], "vocabulary_threshold": 3}, Settings(), typed=True)
    assert typed.generation is not None
    assert typed.generation.vocabulary == ("a, b",)
    assert typed.generation.vocabulary_threshold == 3.0


def test_a_request_gets_the_tags_of_its_vocabulary_whatever_kinds_the_settings_have() -> None:
    settings = Settings.model_validate({"tags": {"kinds": ["noun"]}})
    asked = options_of({"vocabulary": "cat"}, settings)
    assert asked.tags.kinds == (Kind.NOUN, Kind.VOCABULARY)
    chosen = options_of({"vocabulary": "cat", "tag_kinds": "vocabulary"}, settings)
    assert chosen.tags.kinds == (Kind.VOCABULARY,)
    for fields, known in (({"num_beams": "2"}, settings), ({"vocabulary": "cat"}, Settings())):
        assert options_of(fields, known).tags.kinds is None


@pytest.mark.parametrize(
    ("fields", "place", "problem"),
    [
        ({"vocabulary": ["!"]}, "vocabulary", "has no letter"),
        ({"vocabulary": ["x" * 101]}, "vocabulary", "more than 100 characters"),
        ({"vocabulary": [f"t{n}" for n in range(1001)]}, "vocabulary", "at most 1000"),
        ({"vocabulary": "cat"}, "vocabulary", "valid list"),
        ({"vocabulary": [1]}, "vocabulary", "valid string"),
        ({"vocabulary_threshold": 51}, "vocabulary_threshold", "less than or equal to 50"),
        ({"vocabulary_threshold": float("nan")}, "vocabulary_threshold", "finite number"),
        ({"vocabulary": ["cat"], "tag_kinds": ["noun"]}, "tag_kinds", "include vocabulary"),
    ],
)
def test_a_wrong_vocabulary_is_refused(fields: dict[str, Any], place: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options_of(fields, Settings(), typed=True)
    (found,) = caught.value.problems
    assert f"'body', '{place}'" in str(found["loc"])
    assert problem in str(found["msg"])


def in_images(tags: int, words: int, images: int = 1) -> float:
    """Return the cost of an image with so many tags of so many words, in usual images."""
    vocabulary = tuple(" ".join(["tag"] * (words - 1) + [str(tag)]) for tag in range(tags))
    return Generation(vocabulary=vocabulary).cost_in(images) / Generation().cost


def test_a_vocabulary_of_a_request_costs_what_a_model_reads_for_it() -> None:
    costs = [in_images(tags, 2) for tags in (0, 1, 300, 1000)]
    assert costs == sorted(set(costs))
    assert in_images(1000, 1) < 1.3, "the last token of a tag is not read"
    assert 2 < in_images(1000, 2) < 5
    assert 40 < in_images(1000, 24) < 60
    assert in_images(1000, 40) == in_images(1000, 24), "a longer text is no tag"


def test_the_images_of_a_task_share_what_is_read_without_an_image() -> None:
    assert in_images(1000, 24, images=1000) < 3
    assert in_images(1000, 24, images=1000) < in_images(1000, 24, images=100) < 4


@pytest.mark.parametrize(
    ("tag", "tokens"),
    [
        ("cat", 0), ("red car", 1), ("mountain", 0), ("photographer", 2), ("t-shirt", 2),
        ("!!!!!", 4), ("\u732b\u3068\u72ac", 2), ("k" * 50, 14), ("k" * 100, 23), ("", 0),
    ],
)  # fmt: skip
def test_how_many_tokens_of_a_tag_are_read(tag: str, tokens: int) -> None:
    assert tokens_read(tag) == tokens


# ---------------------------------------------------------------- recipes


def test_which_vocabulary_applies() -> None:
    assert RECIPE.vocabulary_of(Generation()) is None
    assert WITH_VOCABULARY.vocabulary_of(Generation()) is VOCABULARY
    own = WITH_VOCABULARY.vocabulary_of(Generation(vocabulary=("fox",)))
    assert own == replace(VOCABULARY, tags=(VocabularyTag("fox"),))
    stricter = WITH_VOCABULARY.vocabulary_of(Generation(vocabulary_threshold=7.0))
    assert stricter is not None
    assert stricter.thresholds == [7.0, 9.0]


@pytest.mark.parametrize(
    ("one", "work", "other", "other_work"),
    [
        (RECIPE, WORK, WITH_VOCABULARY, WORK),
        (WITH_VOCABULARY, WORK, WITH_VOCABULARY, asking(vocabulary=("cat", "dog"))),
        (RECIPE, asking(vocabulary=("a",)), RECIPE, asking(vocabulary=("b",))),
        (RECIPE, asking(vocabulary=("a, b",)), RECIPE, asking(vocabulary=("a", "b"))),
        (
            RECIPE,
            asking(vocabulary=("a",)),
            RECIPE,
            asking(vocabulary=("a",), vocabulary_threshold=1.0),
        ),
        (
            RECIPE,
            asking(vocabulary=("a",)),
            replace(RECIPE, vocabulary=replace(RECIPE.vocabulary, threshold=2.0)),
            asking(vocabulary=("a",)),
        ),
        (
            WITH_VOCABULARY,
            WORK,
            replace(RECIPE, vocabulary=replace(VOCABULARY, scorer="matching")),
            WORK,
        ),
        (RECIPE, WORK, RECIPE, asking(num_beams=2, num_captions=2, rerank=True)),
    ],
)
def test_what_changes_the_tags_changes_the_key_of_the_cache(
    one: Recipe, work: Work, other: Recipe, other_work: Work
) -> None:
    assert one.cache_key(work) != other.cache_key(other_work)
    assert one.cache_key(work) == replace(one).cache_key(work)


def test_the_vocabulary_of_the_settings_does_not_matter_to_a_request_with_its_own() -> None:
    own = asking(vocabulary=("fox",))
    other = replace(WITH_VOCABULARY, vocabulary=replace(VOCABULARY, tags=(CAT,)))
    assert WITH_VOCABULARY.cache_key(own) == other.cache_key(own)


# ---------------------------------------------------------------- results


def of_caption(text: str, kind: Kind = Kind.NOUN) -> Tag:
    return Tag(text, text, Category.OTHER, kind, 0, len(text), 0.9)


def test_the_tags_of_the_vocabulary_follow_those_of_the_caption() -> None:
    scored = [tag_of(ScoredTag(VocabularyTag(text), 5.25)) for text in ("Sofa", "lamp")]
    tags = merged([of_caption("cat"), of_caption("sofa")], scored)
    assert [(tag.tag, tag.kind, tag.score) for tag in tags] == [
        ("cat", Kind.NOUN, None),
        ("sofa", Kind.NOUN, 5.25),
        ("lamp", Kind.VOCABULARY, 5.25),
    ]


def test_kinds_choose_the_sources_of_tags() -> None:
    tags = merged(
        [of_caption("cat"), of_caption("sofa")],
        [tag_of(ScoredTag(VocabularyTag(text), 5.0)) for text in ("sofa", "lamp")],
    )
    whole = Captioned("c", (), "m", 1, 1, tag_details=tags)
    assert whole.with_tags(tags, TagFilter()).tags == ("cat", "lamp", "sofa")
    only = TagFilter(kinds=(Kind.VOCABULARY,))
    assert whole.with_tags(tags, only).tags == ("lamp", "sofa")
    without = TagFilter(kinds=(Kind.NOUN, Kind.PHRASE))
    assert whole.with_tags(tags, without).tags == ("cat", "sofa")


@pytest.mark.parametrize(
    ("tag", "category"),
    [
        (VocabularyTag("red zorkle"), Category.OTHER),
        (VocabularyTag("hot dog"), Category.FOOD),
        (VocabularyTag("Red Car"), Category.VEHICLE),
        (VocabularyTag("cat", Category.TOY), Category.TOY),
    ],
)
def test_a_tag_has_the_category_of_its_line_or_of_the_lexicon(
    tag: VocabularyTag, category: Category
) -> None:
    assert tag_of(ScoredTag(tag, 1.0)).category is category


def test_a_result_has_the_score_and_no_place_in_the_caption() -> None:
    detail = tag_detail(tag_of(ScoredTag(VocabularyTag("Red Car"), 4.123456, 0.75)))
    assert detail == {
        "tag": "Red Car",
        "lemma": "car",
        "category": "vehicle",
        "kind": "vocabulary",
        "start": None,
        "end": None,
        "confidence": 0.75,
        "score": 4.1235,
    }
    assert "score" not in tag_detail(of_caption("cat"))


def test_the_tags_of_a_vocabulary_are_labels_of_dialects() -> None:
    tags = merged(
        [of_caption("red boat", Kind.PHRASE), of_caption("boats")],
        [tag_of(ScoredTag(VocabularyTag(text), 5.0)) for text in ("red boat", "sailing trip")],
    )
    found = Findings.of(Captioned("c", (), "m", 1, 1, tag_details=tags))
    assert [label.name for label in found.labels] == ["red boat", "boats", "sailing trip"]
    assert found.labels[-1].confidence is None


# ---------------------------------------------------------------- captioners and commands


def test_a_captioner_that_cannot_score_tags_does_not_start(tmp_path: Path) -> None:
    toy = toy_family().load(write_toy(tmp_path / "toy"), CPU)
    assert checked_vocabulary(toy, RECIPE.vocabulary) is None
    with pytest.raises(SettingsError, match="this model cannot score tags"):
        checked_vocabulary(toy, VOCABULARY)


def test_matching_needs_a_model() -> None:
    blip = load_captioner(EMBEDDED["captiond/scenes"], CPU)
    assert checked_vocabulary(blip, VOCABULARY) == VOCABULARY
    with pytest.raises(SettingsError, match=r"\[model\] matcher"):
        checked_vocabulary(blip, replace(VOCABULARY, scorer="matching"))
    with pytest.raises(SettingsError, match=r"\[model\] matcher"):  # requests may have a list
        checked_vocabulary(blip, replace(VOCABULARY, tags=(), scorer="matching"))


def test_a_file_becomes_a_list_for_a_service(tmp_path: Path) -> None:
    assert texts_of(written(tmp_path, "cat\nred fox\n")) == ("cat", "red fox")
    with pytest.raises(SettingsError, match="at most 1000 are allowed"):
        texts_of(written(tmp_path, "\n".join(f"tag {n}" for n in range(1001))))
    with pytest.raises(SettingsError, match="a tag only"):
        texts_of(written(tmp_path, "cat = animal"))
