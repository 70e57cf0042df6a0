"""The words of the caption grammar: nouns, verbs and others, read from words.txt."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path

import captiond
from tools.tagger.inflection import with_ed, with_ing, with_s
from tools.tagger.sentences import Sentence, Token

WORDS = Path(__file__).with_name("words.txt")
CATEGORIES = Path(captiond.__file__).parent / "tagging" / "nouns" / "en.txt"

VERB_FEATS = {"ing": "VerbForm=Part", "en": "VerbForm=Part", "s": ""}

_SECTION = re.compile(r"\[(\w+) (\w+)\]")


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun or a compound. It may lack a singular or a plural."""

    singular: Sentence | None
    plural: Sentence | None
    mass: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: its base form, and the forms `ing`, `en` (past participle) and `s` (third person)."""

    lemma: str
    forms: dict[str, str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of the grammar, by kind and class. `function` maps a word to its token."""

    nouns: dict[str, list[Noun]] = field(default_factory=lambda: defaultdict(list))
    verbs: dict[str, list[Verb]] = field(default_factory=lambda: defaultdict(list))
    adjectives: dict[str, list[Sentence]] = field(default_factory=lambda: defaultdict(list))
    adverbs: dict[str, list[Sentence]] = field(default_factory=lambda: defaultdict(list))
    function: dict[str, Token] = field(default_factory=dict)

    def forms(self) -> Iterator[Sentence]:
        """Yield every form of every word, each as a sentence."""
        for noun in chain.from_iterable(self.nouns.values()):
            yield from (form for form in (noun.singular, noun.plural) if form)
        for verb in chain.from_iterable(self.verbs.values()):
            forms = ((verb.forms[key], feats) for key, feats in VERB_FEATS.items())
            yield tuple(Token(text, "VERB", verb.lemma, feats) for text, feats in forms)
        for words in (self.adjectives, self.adverbs):
            yield from chain.from_iterable(words.values())


def read_lexicon(path: Path = WORDS) -> Lexicon:
    """Read a lexicon. The comment at the top of words.txt explains the format."""
    lexicon = Lexicon()
    for kind, name, entry in _entries(path):
        match kind:
            case "noun":
                lexicon.nouns[name].append(_noun(entry))
            case "verb":
                lexicon.verbs[name].append(_verb(entry))
            case "adj":
                lexicon.adjectives[name].append(_phrase(entry, "ADJ", "Degree=Pos"))
            case "adv":
                lexicon.adverbs[name].append(_phrase(entry, "ADV"))
            case "function":
                lemma, _, form = entry.partition(":")
                lexicon.function.setdefault(form or lemma, Token(form or lemma, name, lemma))
            case _:
                raise ValueError(f"{path}: no such kind of words: {kind}")
    return lexicon


def caption_nouns(lexicon: Lexicon, path: Path = CATEGORIES) -> list[Noun]:
    """Return the nouns of nouns/en.txt that `lexicon` lacks: single words with a regular plural."""
    known = {token.text for form in lexicon.forms() for token in form}
    lines = path.read_text(encoding="utf-8").splitlines()
    words = (line.partition(" = ")[0] for line in lines if not line.startswith("#"))
    return [_noun(word) for word in words if word not in known and _REGULAR.fullmatch(word)]


_REGULAR = re.compile(
    r"[a-z]+([^s]|[sui]s)"
)  # excludes words such as scissors, which have no singular


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    kind = name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if section := _SECTION.fullmatch(line):
            kind, name = section.groups()
        elif not line.startswith("#"):
            yield from ((kind, name, entry) for entry in line.split())


def _noun(entry: str) -> Noun:
    if "!" in entry:
        text, _, number = entry.partition("!")
        return Noun(None, _phrase(text, "NOUN", f"Number={number or 'Ptan'}"))
    if entry.endswith("~"):
        return Noun(_phrase(entry[:-1], "NOUN", "Number=Sing"), None, mass=True)
    base, _, irregular = entry.partition(":")
    singular = _phrase(base, "NOUN", "Number=Sing")
    head = singular[-1]
    plural = replace(head, text=irregular or with_s(head.text), feats="Number=Plur")
    return Noun(singular, (*singular[:-1], plural))


_IRREGULAR = {"have": {"s": "has"}, "go": {"s": "goes"}}


def _verb(entry: str) -> Verb:
    lemma, _, rest = entry.partition(":")
    ing, _, en = rest.partition(":")
    forms = {"ing": ing or with_ing(lemma), "en": en or with_ed(lemma), "s": with_s(lemma)}
    return Verb(lemma, forms | _IRREGULAR.get(lemma, {}))


def _phrase(entry: str, pos: str, feats: str = "") -> Sentence:
    """Parse words joined by a space or a hyphen: `hot/ADJ_dog`, `snow/NOUN-covered`."""
    tokens = []
    for part in re.split(r"(?<=-)|(?=-)|_", entry):
        text, _, own = part.partition("/")
        part_pos = own or ("PUNCT" if text == "-" else pos)
        part_feats = feats if part_pos == pos else _FEATS.get(part_pos, "")
        tokens.append(Token(text, part_pos, text, part_feats))
    return glued(tokens)


_FEATS = {"NOUN": "Number=Sing", "ADJ": "Degree=Pos"}


def glued(tokens: list[Token]) -> Sentence:
    """Return the tokens without spaces around hyphens and before commas, full stops and `'s`."""
    spaces = [
        "-" not in (token.text, after.text) and after.text not in {",", ".", "'s"}
        for token, after in pairwise(tokens)
    ]
    spaced = zip(tokens, [*spaces, True], strict=False)
    return tuple(replace(token, space=space) for token, space in spaced)
