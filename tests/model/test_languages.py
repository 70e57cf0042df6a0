"""More than one language, with German pipelines that the tests make: with and without a parser."""

from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.pipeline import AttributeRuler
from spacy.tokens import Doc
from spacy.training import Example
from structlog.testing import capture_logs

from captiond.config import TagSettings
from captiond.errors import ModelMissing, SettingsError
from captiond.tagging.tagger import Tagger, Taggers
from tests.tagging import add_german_words, texts

CAPTION = "ein Bild von zwei schwarzen Hunden auf der linken Seite von einem Garten"
TAGS = ["garten", "hund", "schwarz hund"]
PARSED = [  # words, heads, dependencies as spaCy's German pipelines name them
    ("ein schwarzer Hund sieht einen Garten", [2, 2, 3, 3, 5, 3], "nk nk sb ROOT nk oa"),
    ("der Hund sieht eine schwarze Katze", [1, 2, 2, 5, 5, 2], "nk sb ROOT nk nk oa"),
    ("eine Katze sieht den Hund", [1, 2, 2, 4, 2], "nk sb ROOT nk oa"),
]


def german_parser() -> Language:
    """A pipeline whose parser knows three sentences by heart."""
    nlp = spacy.blank("de")
    nlp.add_pipe("parser", config={"min_action_freq": 1})
    examples = [
        Example.from_dict(nlp.make_doc(text), {"heads": heads, "deps": deps.split()})
        for text, heads, deps in PARSED
    ]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(40):
        nlp.update(examples, sgd=optimizer)
    return nlp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("german") / "pipeline"
    add_german_words(spacy.blank("de")).to_disk(path)
    return path


@pytest.fixture(scope="module")
def taggers(folder: Path) -> Taggers:
    return Taggers.load(TagSettings(pipelines={"en": "captiond/english", "de": str(folder)}))


def test_words_follow_the_language(taggers: Taggers) -> None:
    """*Bild* is generic, *Seite* a place, *zwei* a count and *ein* a stop word, in German."""
    (found,) = taggers.tag([CAPTION], ["de"])
    assert texts(found) == TAGS
    assert found[0].tag == "schwarz hund"  # the subject, which the picture is of


def test_each_caption_of_a_batch_has_its_language(taggers: Taggers) -> None:
    captions = ["a black dog", "der Hund", None, "a black dog", "ein Garten"]
    found = taggers.tag(captions, ["en", "de", "de", None, "de"])
    assert [texts(tags) for tags in found] == [
        ["black dog", "dog"],
        ["hund"],
        [],
        ["black dog", "dog"],
        ["garten"],
    ]


def test_the_default_language_can_be_another(folder: Path) -> None:
    taggers = Taggers.load(TagSettings(pipelines={"de": str(folder)}, language="de"))
    assert texts(taggers.tag(["der Hund"], [None])[0]) == ["hund"]
    assert taggers.fingerprint() == taggers.fingerprint("de")


def test_fingerprints_differ_by_language_and_by_synonyms(folder: Path, tmp_path: Path) -> None:
    synonyms = tmp_path / "synonyms.txt"
    synonyms.write_text("hund = haustier")
    plain = Tagger.load("de", str(folder))
    assert plain.fingerprint != Tagger.load("nl", str(folder)).fingerprint
    assert plain.fingerprint != Tagger.load("de", str(folder), synonyms).fingerprint


def test_a_language_that_has_lost_its_pipeline_goes_without(taggers: Taggers) -> None:
    with capture_logs() as logs:
        found = taggers.tag(["un perro", "a dog"], ["es", "en"])
    assert [texts(tags) for tags in found] == [[], ["dog"]]
    assert taggers.failures == 1
    assert logs == [
        {
            "event": "no_tagger_for_language",
            "language": "es",
            "captions": 1,
            "log_level": "error",
        }
    ]


def test_the_rules_work_with_a_parser(tmp_path: Path) -> None:
    add_german_words(german_parser()).to_disk(tmp_path)
    tagger = Tagger.load("de", str(tmp_path))
    found = tagger.tag(["ein schwarzer Hund sieht einen Garten"])[0]
    assert texts(found) == TAGS
    assert [(tag.tag, tag.kind) for tag in found][:2] == [
        ("schwarz hund", "phrase"),
        ("hund", "noun"),
    ]


def test_a_pipeline_without_lemmas_gives_the_words_themselves(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    assert isinstance(ruler, AttributeRuler)
    ruler.add(patterns=[[{"LOWER": "dogs"}]], attrs={"POS": "NOUN"})
    nlp.to_disk(tmp_path)
    assert texts(Tagger.load("en", str(tmp_path)).tag(["two Dogs"])[0]) == ["dogs"]


def test_a_pipeline_that_tags_nothing_gives_nothing(tmp_path: Path) -> None:
    spacy.blank("xx").to_disk(tmp_path)
    assert Tagger.load("xx", str(tmp_path)).tag(["a dog", "犬"]) == [(), ()]


@Language.component("always_raises")
def always_raises(doc: Doc) -> Doc:
    raise RuntimeError(doc.text)


def test_a_pipeline_that_always_raises_gives_nothing_and_is_counted(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("always_raises")
    nlp.to_disk(tmp_path)
    tagger = Tagger.load("en", str(tmp_path))
    with capture_logs() as logs:
        assert tagger.tag(["a dog", "a cat", "a dog"]) == [(), (), ()]
    assert tagger.failures == 2  # of two different captions
    assert [entry["event"] for entry in logs].count("tagging_failed") == 2


def test_a_missing_pipeline_is_told_by_its_setting(folder: Path) -> None:
    settings = TagSettings(pipelines={"en": str(folder), "de": "de_nothing_sm"})
    with pytest.raises(ModelMissing, match=r"tags\.pipelines\.de = de_nothing_sm: no such package"):
        Taggers.load(settings)


def test_synonyms_are_in_every_language_and_bring_their_category(
    folder: Path, tmp_path: Path
) -> None:
    synonyms = tmp_path / "synonyms.txt"
    synonyms.write_text("hund = haustier\nautomobile = car\nhot dog = sausage\n")
    taggers = Taggers.load(
        TagSettings(pipelines={"en": "captiond/english", "de": str(folder)}, synonyms=synonyms)
    )
    captions = ["ein schwarzer Hund", "a red automobile", "a big hot dog"]
    german, car, sausage = taggers.tag(captions, ["de", "en", "en"])
    assert texts(german) == ["haustier", "schwarz haustier"]
    assert [(tag.tag, tag.lemma, tag.category, tag.start, tag.end) for tag in car[:2]] == [
        ("red car", "car", "vehicle", 2, 16),
        ("car", "car", "vehicle", 6, 16),
    ]
    assert sausage[0].tag == "big sausage"
    assert sausage[0].category == "food"


def test_a_wrong_synonyms_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text("nonsense")
    with pytest.raises(SettingsError, match="line 1"):
        Taggers.load(TagSettings(synonyms=tmp_path / "synonyms.txt"))


def test_what_was_tagged_lately_is_remembered_and_no_more(folder: Path) -> None:
    taggers = Tagger.load("de", str(folder), remembered=2)
    taggers.tag(["der Hund", "ein Garten", "der Hund"])
    assert taggers.hits == 1
    taggers.tag(["der Hund"])
    taggers.tag(["eine Katze"])  # drops the garden, which was asked for longest ago
    assert taggers.hits == 2
    taggers.tag(["der Hund", "eine Katze"])
    assert taggers.hits == 4
    taggers.tag(["ein Garten"])
    assert taggers.hits == 4
