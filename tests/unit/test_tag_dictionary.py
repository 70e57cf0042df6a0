"""Dictionaries of tags: their files, and what they make of phrases."""

from pathlib import Path

import pytest

from captiond.errors import SettingsError
from captiond.tags import Category, Kind, Tag
from captiond.translation.dictionary import (
    FOLDER,
    HEDGE,
    DictionaryEntry,
    TagDictionary,
    read_dictionary,
    read_entries,
)

LANGUAGES = sorted(path.stem for path in FOLDER.glob("*.tsv"))


def tag(text: str, lemma: str = "") -> Tag:
    return Tag(text, lemma or text.split()[-1], Category.OTHER, Kind.NOUN, 0, len(text))


def test_a_file_has_a_tab_between_tag_and_translation(tmp_path: Path) -> None:
    file = tmp_path / "de.tsv"
    file.write_text(
        "# my tags\n\nSunset\tSonnenuntergang\tm\noak\tEiche\tf before m=eichener\n"
        "red\trot\tbefore m=roter n=rotes\n"
        "hot dog\tHotdog\npale\tblass\tafter m=ganz_blass\n"
    )
    assert read_entries(file) == {
        "sunset": DictionaryEntry("Sonnenuntergang", gender="m"),
        "oak": DictionaryEntry("Eiche", gender="f", place="before", forms={"m": "eichener"}),
        "red": DictionaryEntry("rot", place="before", forms={"m": "roter", "n": "rotes"}),
        "hot dog": DictionaryEntry("Hotdog"),
        "pale": DictionaryEntry("blass", place="after", forms={"m": "ganz blass"}),
    }


@pytest.mark.parametrize(
    "line",
    [
        "sunset", "sunset Sonnenuntergang", "\tSonnenuntergang", "sunset\t", "a\tb\tm\tn",
        "a\tb\tm n", "red\trot\tbefore m", "red\trot\tm=roter", "cat\tKater",
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "de.tsv"
    file.write_text(f"cat\tKatze\tf\n{line}\n")
    with pytest.raises(SettingsError, match=r"de\.tsv: line 2: "):
        read_entries(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.tsv: cannot be read: No such file"):
        read_dictionary("de", tmp_path / "none.tsv")
    (tmp_path / "latin.tsv").write_bytes("cat\tKätzchen".encode("latin-1"))
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_dictionary("de", tmp_path / "latin.tsv")


def test_the_lines_of_an_operator_come_first(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text("cat\tMieze\tf\n")
    own, shipped = read_dictionary("de", file), read_dictionary("de")
    assert (own.translation("cat"), shipped.translation("cat")) == ("Mieze", "Katze")
    assert own.translation("dog") == shipped.translation("dog") == "Hund"
    assert read_dictionary("de-at").entries == shipped.entries
    assert read_dictionary("xx").entries == {}
    assert read_dictionary("xx", file).translation("CAT") == "Mieze"


def test_what_is_unknown_stays_in_english_without_a_mark_of_translation() -> None:
    dictionary = TagDictionary(
        {"cat": DictionaryEntry("Katze", gender="f"), "sofa": DictionaryEntry("Sofa")}
    )
    cat, other = dictionary.translated([tag("cat"), tag("red cat")])
    assert (cat.tag, cat.lemma, cat.english) == ("Katze", "Katze", "cat")
    assert other == tag("red cat")


def test_tags_with_the_same_translation_are_one_tag() -> None:
    dictionary = TagDictionary({"couch": DictionaryEntry("Sofa"), "sofa": DictionaryEntry("Sofa")})
    assert [each.english for each in dictionary.translated([tag("sofa"), tag("couch")])] == ["sofa"]


@pytest.mark.parametrize(
    ("language", "english", "expected"),
    [
        ("de", "young woman", "junge Frau"),
        ("de", "red dress", "rotes Kleid"),
        ("de", "big black dog", "großer schwarzer Hund"),
        ("de", "white shoe", "weißer Schuh"),
        ("de", "sunglasses", "Sonnenbrille"),
        ("de", "light blue shirt", "hellblaues Hemd"),
        ("de", "old traffic light", "alte Ampel"),
        ("fr", "red dress", "robe rouge"),
        ("fr", "old man", "vieil homme"),
        ("fr", "white house", "maison blanche"),
        ("fr", "big white dog", "grand chien blanc"),
        ("fr", "black glasses", "lunettes noires"),
        ("fr", "small round wooden table", "petite table en bois ronde"),
        ("es", "red dress", "vestido rojo"),
        ("es", "young woman", "mujer joven"),
        ("es", "big white house", "casa blanca grande"),
        ("es", "black glasses", "gafas negras"),
        ("de", "orange circle", "orange Kreis"),
        ("de", "stone wall", "steinerne Wand"),
        ("de", "stone", "Stein"),
        ("fr", "orange circle", "cercle orange"),
        ("fr", "stone bridge", "pont en pierre"),
        ("es", "orange cat", "gato naranja"),
        ("es", "wooden bridge", "puente de madera"),
        ("de", "red unknown", None),
        ("de", "unknown cat", None),
    ],
)
def test_phrases_of_known_words(language: str, english: str, expected: str | None) -> None:
    assert read_dictionary(language).translation(english) == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_shipped_dictionary_is_whole(language: str) -> None:
    dictionary = read_dictionary(language)
    german = read_dictionary("de").entries
    assert len(dictionary.entries) >= 300
    assert dictionary.hedge, "alternative texts are hedged"
    assert set(dictionary.entries) == set(german)
    for english, entry in dictionary.entries.items():
        assert bool(entry.place) == bool(german[english].place), english
        assert bool(entry.gender) == bool(german[english].gender), english
        assert english == english.lower()
    assert {category.value for category in Category if category is not Category.OTHER} <= set(
        dictionary.entries
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_adjectives_have_a_form_for_each_gender(language: str) -> None:
    entries = read_dictionary(language).entries.values()
    genders = {entry.gender for entry in entries if entry.gender}
    own = {"de": {"m", "f", "n", "p"}, "fr": {"m", "mv", "f", "mp", "fp"},
           "es": {"m", "f", "mp", "fp"}}[language]  # fmt: skip
    assert genders <= own
    if language == "de":
        assert all(set(entry.forms) in (set(), own) for entry in entries if entry.place)


def test_there_are_the_three_languages() -> None:
    assert LANGUAGES == ["de", "es", "fr"]
    assert HEDGE in read_dictionary("fr").entries
