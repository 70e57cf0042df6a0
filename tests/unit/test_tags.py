"""Tag filters, synonyms and the lexicon, all without a pipeline."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.errors import SettingsError
from captiond.tagging.lexicon import lexicon_files, read_lexicon, read_nouns, read_senses
from captiond.tagging.synonyms import read_synonyms
from captiond.tags import Category, Kind, Tag, TagFilter, TagOptions, matches

NOUNS, SENSES = lexicon_files("en")
ENGLISH = read_lexicon("en")


def tag(text: str, kind: Kind = Kind.NOUN, category: Category = Category.OTHER) -> Tag:
    return Tag(text, text.split()[-1], category, kind, 0, len(text))


BLACK_CAT = tag("black cat", Kind.PHRASE, Category.ANIMAL)
CAT = tag("cat", Kind.NOUN, Category.ANIMAL)
BLACK = tag("black", Kind.ADJECTIVE, Category.COLOUR)
SOFA = tag("sofa", Kind.NOUN, Category.FURNITURE)
TAGS = (BLACK_CAT, CAT, BLACK, SOFA)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (TagFilter(), ["black cat", "cat", "sofa"]),
        (TagFilter(kinds=(Kind.ADJECTIVE,)), ["black"]),
        (TagFilter(categories=(Category.ANIMAL,)), ["black cat", "cat"]),
        (TagFilter(categories=(Category.WEATHER,)), []),
        (TagFilter(deny=("cat",)), ["sofa"]),  # denying a lemma also denies its phrases
        (TagFilter(deny=("black cat",)), ["cat", "sofa"]),
        (TagFilter(deny=("*CAT",)), ["sofa"]),
        (TagFilter(allow=(("cat", "dog"),)), ["black cat", "cat"]),
        (TagFilter(allow=(("cat", "sofa"), ("s*",))), ["sofa"]),
        (TagFilter(min_length=4), ["black cat", "sofa"]),
        (TagFilter(max_number=2), ["black cat", "cat"]),
        (TagFilter(max_number=2, deny=("cat",)), ["sofa"]),
    ],
)
def test_a_filter_selects_tags(wanted: TagFilter, expected: list[str]) -> None:
    assert [selected.tag for selected in wanted.select(TAGS)] == expected


def test_a_text_is_selected_once_and_counted_once() -> None:
    twice = (tag("cat", Kind.NOUN), tag("cat", Kind.PHRASE), tag("dog"))
    assert [(t.tag, t.kind) for t in TagFilter(max_number=2).select(twice)] == [
        ("cat", Kind.NOUN),
        ("dog", Kind.NOUN),
    ]


def test_a_request_narrows_the_lists_and_replaces_the_rest() -> None:
    settings = TagFilter(deny=("cat",), allow=(("c*",),), min_length=2, max_number=5)
    requested = TagOptions(
        kinds=(Kind.PHRASE,),
        categories=(Category.ANIMAL,),
        deny=("dog",),
        allow=("*r",),
        max_number=0,
    )
    assert settings.narrowed(requested) == TagFilter(
        kinds=(Kind.PHRASE,),
        categories=(Category.ANIMAL,),
        deny=("cat", "dog"),
        allow=(("c*",), ("*r",)),
        min_length=2,
        max_number=0,
    )
    assert settings.narrowed(TagOptions()) == settings


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("cat", "cat", True),
        ("cat", "cats", False),
        ("Cat", "cAT", True),
        ("cat*", "cat", True),
        ("*cat", "black cat", True),
        ("b*k*t", "black cat", True),
        ("a*a", "a", False),
        ("*", "", True),
        ("**", "cat", True),
        ("c.t", "cat", False),
        ("*ab*ab*", "ab", False),
    ],
)
def test_a_star_matches_any_characters(pattern: str, text: str, *, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_a_hostile_pattern_does_not_take_exponential_time() -> None:
    assert not matches("*a" * 50 + "b", "a" * 1000)


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), st.text("ab", max_size=4))
def test_the_parts_between_stars_match_in_their_order(parts: list[str], between: str) -> None:
    assert matches("*".join(parts), between.join(parts))


# ---------------------------------------------------------------- synonyms


def synonyms_file(folder: Path, text: str) -> Path:
    path = folder / "synonyms.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_longest_sequence_of_words_is_replaced(tmp_path: Path) -> None:
    synonyms = read_synonyms(
        synonyms_file(
            tmp_path,
            "# ours\n\nautomobile = car\nMotor Bike = motorcycle # one word\nbike = bicycle\n",
        )
    )
    assert synonyms.apply(("red", "automobile")) == ("red", "car")
    assert synonyms.apply(("old", "motor", "bike")) == ("old", "motorcycle")
    assert synonyms.apply(("bike", "rack")) == ("bicycle", "rack")
    assert synonyms.apply(("motor",)) == ("motor",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("automobile", "line 1: 'automobile' is not of the form: automobile = car"),
        ("a = b\n = car", "line 2: '= car' is not of the form"),
        ("auto =", "line 1: 'auto =' is not of the form"),
        ("auto = car\nauto = van", "line 2: 'auto' is already on an earlier line"),
        ("auto = car\ncar = vehicle", "'auto' becomes 'car', which another line replaces"),
    ],
)
def test_the_error_names_the_number_of_a_wrong_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = synonyms_file(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_synonyms(path)
    assert str(caught.value).startswith(f"tags.synonyms = {path}: ")
    assert message in str(caught.value)


def test_a_synonyms_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_synonyms(tmp_path / "none.txt")
    path = tmp_path / "synonyms.txt"
    path.write_bytes(b"caf\xe9 = bar")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        read_synonyms(path)


# ---------------------------------------------------------------- lexicon


def test_the_lexicon_is_sorted_and_large_and_has_no_duplicates() -> None:
    nouns = [noun for noun, _ in read_nouns(NOUNS)]  # raises on an unknown category
    assert nouns == sorted(set(nouns))
    assert len(nouns) >= 2500
    assert all(noun == noun.strip().lower() for noun in nouns)


def test_every_category_has_nouns() -> None:
    assert set(ENGLISH.nouns.values()) == set(Category)


def test_senses_are_sorted_and_their_nouns_are_in_the_lexicon() -> None:
    entries = [line for line in SENSES.read_text().splitlines() if not line.startswith("#")]
    assert entries == sorted(set(entries))
    for noun, senses in read_senses(SENSES).items():
        assert noun in ENGLISH.nouns
        assert ENGLISH.nouns[noun] not in {sense.category for sense in senses if sense.words}
        categories = [sense.category for sense in senses]
        assert len(categories) == len(set(categories)), noun


@pytest.mark.parametrize(
    ("words", "context", "category"),
    [
        ("dog", "", "animal"),
        ("hot dog", "", "food"),
        ("hot air balloon", "", "vehicle"),
        ("mouse", "cat cheese", "animal"),
        ("mouse", "keyboard cat monitor", "electronics"),
        ("pitcher", "baseball throw", "person"),
        ("pitcher", "lemonade table", "tool"),
        ("unheard", "", None),
    ],
)
def test_the_category_of_a_noun(words: str, context: str, category: str | None) -> None:
    assert ENGLISH.category(words.split(), set(context.split())) == category


@pytest.mark.parametrize(
    ("word", "colour"), [("red", True), ("orange", True), ("gold", True), ("wooden", False)]
)
def test_adjectives_that_are_colours(word: str, *, colour: bool) -> None:
    assert ENGLISH.colour(word) is colour


def test_a_language_without_a_lexicon_has_an_empty_one() -> None:
    assert read_lexicon("xx").category(["hund"]) is None
