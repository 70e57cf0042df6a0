"""Rules, helpers and a German pipeline that the tests of tags share."""

from collections.abc import Iterable, Sequence
from typing import Any

from spacy.language import Language
from spacy.pipeline import AttributeRuler

from captiond.tagging.extract import TagRules
from captiond.tagging.languages import language_words
from captiond.tagging.lexicon import read_lexicon
from captiond.tagging.tagger import Tagger
from captiond.tags import Tag, TagFilter

ENGLISH_RULES = TagRules(language_words("en"), read_lexicon("en"))
WANTED = TagFilter()


def texts(tags: Iterable[Tag], wanted: TagFilter = WANTED) -> list[str]:
    """Return the texts of the tags, as `tags` in a response has them."""
    return sorted(tag.tag for tag in wanted.select(tags))


def tags_of(tagger: Tagger, captions: Sequence[str | None]) -> list[list[str]]:
    """Return the texts of each caption's tags."""
    return [texts(tags) for tags in tagger.tag(captions)]


GERMAN = {
    "NOUN": {"Bild": "bild bildes", "Hund": "hund hunde hunden", "Garten": "garten gärten"}
    | {"Seite": "seite", "Katze": "katze katzen"},
    "ADJ": {"schwarz": "schwarz schwarze schwarzer schwarzen", "link": "linken linke links"},
    "DET": {"ein": "ein eine einen einem", "der": "der die das den"},
    "ADP": {"von": "von", "auf": "auf"},
    "NUM": {"zwei": "zwei"},
    "VERB": {"sehen": "sieht"},
}


def add_german_words(nlp: Language) -> Language:
    """Add a ruler that knows the parts of speech and lemmas of a dozen German words."""
    ruler = nlp.add_pipe("attribute_ruler")
    assert isinstance(ruler, AttributeRuler)
    for pos, lemmas in GERMAN.items():
        for lemma, forms in lemmas.items():
            patterns: list[list[dict[int | str, Any]]] = [[{"LOWER": f}] for f in forms.split()]
            ruler.add(patterns=patterns, attrs={"POS": pos, "LEMMA": lemma})
    return nlp
