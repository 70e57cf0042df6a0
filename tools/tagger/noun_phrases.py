"""The noun phrases of the caption grammar: "two brown and white dogs", "a group of skiers"."""

from collections.abc import Sequence
from random import Random

from tools.tagger.lexicon import Lexicon, Noun
from tools.tagger.sentences import Sentence, Token

_WILD = 0.15  # the probability that a noun or adjective comes from outside the lexicon

_COUNTS = ["two", "three", "four", "several", "many", "some", "few", "various", "different"]
_PARTITIVES = ["group", "bunch", "pile", "row", "couple", "pair", "lot", "line", "set", "stack"]
_COMPOUNDING = ["material", "material", "nature", "plant", "food", "animal", "place", "season"]
_PLURAL_DETERMINERS = ["the", "his", "her", "their", "some", "these"]
_MASS_DETERMINERS = ["the", "some", "the", "a"]
_DETERMINERS = ["the", "the", "the", "his", "her", "its", "their", "one", "another", "this"]
_A = Token("a", "DET", "a")
_OF = Token("of", "ADP", "of")
_AND = Token("and", "CCONJ", "and")
_COMMA = Token(",", "PUNCT", ",")


class NounPhrases:
    """Makes random noun phrases. The same state of `rng` gives the same phrases.

    `wild_nouns` and `wild_adjectives` are words from outside the lexicon that sometimes fill a
    slot. They teach the pipeline to tag unknown words by their context.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        rng: Random,
        wild_nouns: Sequence[Noun] = (),
        wild_adjectives: Sequence[Sentence] = (),
    ) -> None:
        self._lexicon = lexicon
        self._rng = rng
        self._wild_nouns = wild_nouns
        self._wild_adjectives = wild_adjectives

    def phrase(self, name: str, number: str) -> Sequence[Token]:
        """Return a noun phrase with a noun of the class `name`.

        `number` is s (singular), p (plural), 0 (the noun alone), c (singular, with a colour), or
        empty for a random choice of singular or plural.
        """
        noun = self._noun(name)
        if number == "c":
            return self._with_article([*self._colours(), *_any(noun)])
        if number == "0":
            return _any(noun)
        if noun.plural and (noun.singular is None or self._is_plural(number)):
            return self._plural_phrase(noun.plural)
        if noun.mass:
            return self._mass_phrase(_any(noun))
        return self._with_determiner([*self._modifiers(), *_any(noun)])

    def _noun(self, name: str) -> Noun:
        if self._wild_nouns and self._rng.random() < _WILD:
            return self._rng.choice(self._wild_nouns)
        return self._rng.choice(self._lexicon.nouns[name])

    def _is_plural(self, number: str) -> bool:
        return number == "p" or (number != "s" and self._rng.random() < 0.25)

    def _plural_phrase(self, noun: Sentence) -> list[Token]:
        phrase = [*self._modifiers(), *noun]
        chance = self._rng.random()
        if chance < 0.35:
            return phrase
        if chance < 0.65:
            count = self._rng.choice(_COUNTS)
            default = Token(count, "ADJ", count, "Degree=Pos")
            return [self._lexicon.function.get(count, default), *phrase]
        if chance < 0.85:
            head = self._rng.choice(_PARTITIVES)
            return [_A, Token(head, "NOUN", head, "Number=Sing"), _OF, *phrase]
        return [self._determiner(_PLURAL_DETERMINERS), *phrase]

    def _mass_phrase(self, noun: Sentence) -> list[Token]:
        phrase = [*self._modifiers(), *noun]
        if self._rng.random() < 0.6:
            return phrase
        return [self._determiner(_MASS_DETERMINERS), *phrase]

    def _with_determiner(self, phrase: list[Token]) -> list[Token]:
        if self._rng.random() < 0.72:
            return self._with_article(phrase)
        return [self._determiner(_DETERMINERS), *phrase]

    def _with_article(self, phrase: list[Token]) -> list[Token]:
        article = "an" if phrase[0].text[0] in "aeiou" else "a"
        return [Token(article, "DET", "a"), *phrase]

    def _determiner(self, words: Sequence[str]) -> Token:
        return self._lexicon.function[self._rng.choice(words)]

    def _modifiers(self) -> list[Token]:
        """Return none, one or two modifiers: colours, adjectives, or the noun of a compound."""
        chance = self._rng.random()
        if chance < 0.5:
            return []
        if chance < 0.62:
            return self._colours()
        if chance < 0.88:
            return self._adjective()
        if chance < 0.95:
            compound = self._noun(self._rng.choice(_COMPOUNDING))
            return list(compound.singular or ())
        return [*self._adjective(), *self._colours()]

    def _colours(self) -> list[Token]:
        colours = self._lexicon.adjectives["colour"]
        first, second = self._rng.sample(colours, 2)
        chance = self._rng.random()
        if chance < 0.75:
            return list(first)
        joined = [*first, _AND, *second]
        if chance < 0.95:
            return joined
        return [*self._rng.choice(colours), _COMMA, *joined]

    def _adjective(self) -> list[Token]:
        if self._wild_adjectives and self._rng.random() < _WILD:
            return list(self._rng.choice(self._wild_adjectives))
        adjectives = self._lexicon.adjectives
        name = self._rng.choice(("size", "general", "general", "participle"))
        words = list(self._rng.choice(adjectives[name]))
        if name != "size" and self._rng.random() < 0.08:
            return [*self._rng.choice(self._lexicon.adverbs["degree"]), *words]
        return words


def _any(noun: Noun) -> Sentence:
    form = noun.singular or noun.plural
    assert form is not None
    return form
