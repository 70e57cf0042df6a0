"""Tags in several languages. The tests make German pipelines, with and without a parser."""

from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.pipeline import AttributeRuler
from spacy.tokens import Doc
from spacy.training import Example
from structlog.testing import capture_logs

from captiond.errors import ModelMissing, SettingsError
from captiond.settings.option_settings import TagSettings
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
    """Return a pipeline whose parser is trained on three sentences only."""
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


def test_the_special_words_are_those_of_the_language(taggers: Taggers) -> None:
    """In German, *Bild* is generic, *Seite* a position, *zwei* a count and *ein* a stop word."""
    (tags,) = taggers.tag([CAPTION], ["de"])
    assert texts(tags) == TAGS
    assert tags[0].tag == "schwarz hund"  # the subject of the picture


def test_each_caption_of_a_batch_has_its_own_language(taggers: Taggers) -> None:
    captions = ["a black dog", "der Hund", None, "a black dog", "ein Garten"]
    results = taggers.tag(captions, ["en", "de", "de", None, "de"])
    assert [texts(tags) for tags in results] == [
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


def test_captions_of_a_language_without_a_pipeline_get_no_tags(taggers: Taggers) -> None:
    with capture_logs() as logs:
        results = taggers.tag(["un perro", "a dog"], ["es", "en"])
    assert [texts(tags) for tags in results] == [[], ["dog"]]
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
    tags = tagger.tag(["ein schwarzer Hund sieht einen Garten"])[0]
    assert texts(tags) == TAGS
    assert [(tag.tag, tag.kind) for tag in tags][:2] == [
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


def test_a_pipeline_without_parts_of_speech_gives_no_tags(tmp_path: Path) -> None:
    spacy.blank("xx").to_disk(tmp_path)
    assert Tagger.load("xx", str(tmp_path)).tag(["a dog", "犬"]) == [(), ()]


@Language.component("always_raises")
def always_raises(doc: Doc) -> Doc:
    raise RuntimeError(doc.text)


def test_a_pipeline_that_always_raises_gives_no_tags_and_is_counted(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("always_raises")
    nlp.to_disk(tmp_path)
    tagger = Tagger.load("en", str(tmp_path))
    with capture_logs() as logs:
        assert tagger.tag(["a dog", "a cat", "a dog"]) == [(), (), ()]
    assert tagger.failures == 2  # two different captions failed
    assert [entry["event"] for entry in logs].count("tagging_failed") == 2


def test_the_error_for_a_missing_pipeline_names_its_setting(folder: Path) -> None:
    settings = TagSettings(pipelines={"en": str(folder), "de": "de_nothing_sm"})
    with pytest.raises(ModelMissing, match=r"tags\.pipelines\.de = de_nothing_sm: no such package"):
        Taggers.load(settings)


def test_synonyms_apply_to_every_language_and_set_the_category(
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


def test_the_cache_keeps_the_most_recently_used_captions(folder: Path) -> None:
    tagger = Tagger.load("de", str(folder), cache_size=2)
    tagger.tag(["der Hund", "ein Garten", "der Hund"])
    assert tagger.hits == 1
    tagger.tag(["der Hund"])
    tagger.tag(["eine Katze"])  # evicts the garden, the least recently used caption
    assert tagger.hits == 2
    tagger.tag(["der Hund", "eine Katze"])
    assert tagger.hits == 4
    tagger.tag(["ein Garten"])
    assert tagger.hits == 4
