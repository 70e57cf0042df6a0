"""A grammar that makes annotated captions from templates.txt and words.txt."""

import re
from dataclasses import replace
from pathlib import Path
from random import Random

from tools.tagger.lexicon import VERB_FEATS, Lexicon, glued
from tools.tagger.noun_phrases import NounPhrases
from tools.tagger.sentences import Sentence, Token

TEMPLATES = Path(__file__).with_name("templates.txt")

_ITEM = re.compile(r"\([^)]*\)|(?:<[^>]*>|\{[^}]*\}|[^\s<{(])+")
_ALTERNATIVE = re.compile(r"(?:<[^>]*>|\{[^}]*\}|[^|])+")
_PRESENT = 0.5  # the probability of an optional group
_SENTENCE_CASE = 0.15
_FULL_STOP = 0.15
_COMMA = Token(",", "PUNCT", ",")
_STOP = Token(".", "PUNCT", ".")


class CaptionGrammar:
    """Makes random annotated captions. The same state of `rng` gives the same captions."""

    def __init__(
        self, lexicon: Lexicon, phrases: NounPhrases, rng: Random, templates: Path = TEMPLATES
    ) -> None:
        self._lexicon = lexicon
        self._phrases = phrases
        self._rng = rng
        self._weights, self._templates, self._macros = _read_templates(templates)

    def caption(self) -> Sentence:
        """Return one caption, usually in lower case and without a full stop."""
        template = self._rng.choices(self._templates, self._weights)[0]
        tokens = self._expand(template)
        if self._rng.random() < _SENTENCE_CASE:
            tokens[0] = replace(tokens[0], text=tokens[0].text.capitalize())
        if self._rng.random() < _FULL_STOP:
            tokens.append(_STOP)
        return glued(tokens)

    def _expand(self, template: str) -> list[Token]:
        tokens: list[Token] = []
        for item in _ITEM.findall(template):
            if not item.startswith("("):
                tokens += self._item(item)
            elif self._rng.random() < _PRESENT:
                tokens += self._expand(item[1:-1])
        return tokens

    def _item(self, item: str) -> Sentence:
        """Return the tokens of a slot or a word, and the comma that may follow it."""
        if item.endswith(",") and item != ",":
            return (*self._item(item[:-1]), _COMMA)
        if item.startswith("@"):
            return tuple(self._expand(self._rng.choice(self._macros[item])))
        chosen: str = self._rng.choice(_ALTERNATIVE.findall(item))
        if chosen.startswith("<"):
            return tuple(self._phrases.phrase(*self._slot(chosen)))
        if chosen.startswith("{"):
            return (self._verb(*self._slot(chosen)),)
        return (self._lexicon.function.get(chosen) or _literal(chosen),)

    def _slot(self, item: str) -> tuple[str, str]:
        """Choose one class of a slot such as `<cat|dog:s>`; return its name and its form."""
        name, _, form = self._rng.choice(item[1:-1].split("|")).partition(":")
        return name, form

    def _verb(self, name: str, form: str) -> Token:
        verb = self._rng.choice(self._lexicon.verbs[name])
        form = form or "ing"
        return Token(verb.forms[form], "VERB", verb.lemma, VERB_FEATS[form])


def _read_templates(path: Path) -> tuple[list[int], list[str], dict[str, list[str]]]:
    """Return the weights of the templates, the templates, and the phrases of each macro."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    macros = {key: rest.split(";") for key, rest in pairs if key.startswith("@")}
    templates = [(int(key), rest) for key, rest in pairs if key not in macros]
    return [weight for weight, _ in templates], [rest for _, rest in templates], macros


def _literal(item: str) -> Token:
    """Parse an annotated word: `game/NOUN`, `slices/NOUN/slice` or `cut/VERB/cut/Part`."""
    text, pos, *rest = item.split("/")
    lemma, form = (*rest, "", "")[:2]
    return Token(text, pos, lemma or text, _feats(text, pos, lemma or text, form))


def _feats(text: str, pos: str, lemma: str, form: str) -> str:
    if pos == "NOUN":
        return "Number=Sing" if text == lemma else "Number=Plur"
    if pos == "ADJ":
        return "Degree=Pos"
    if pos != "VERB":
        return ""
    if form or text.endswith(("ing", "ed")):
        return f"VerbForm={form or 'Part'}"
    return "VerbForm=Inf" if text == lemma else ""
