"""Make the tables of spaCy's rule lemmatizer from annotated sentences."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import TypeAlias

from spacy.language import Language
from spacy.lookups import Lookups
from spacy.pipeline import Lemmatizer
from spacy.tokens import Doc

from tools.tagger.sentences import Sentence

Form: TypeAlias = tuple[str, str, str]  # lower-cased text, part of speech, features

_UNCHANGED = {"PROPN", "X", "SYM", "PUNCT", "NUM"}

# Suffixes and their replacements, the more reliable ones first. The lemmatizer prefers a result
# that is a known lemma, so the order decides only for unknown words.
_DOUBLED = [(f"{c}{c}", c) for c in "bdgmnprt"]
RULES: dict[str, list[list[str]]] = {
    "noun": [
        ["ies", "y"],
        ["ches", "ch"],
        ["shes", "sh"],
        ["sses", "ss"],
        ["xes", "x"],
        *([f"{c}men", f"{c}man"] for c in "ersty"),
        ["s", ""],
        ["es", ""],
        ["es", "e"],
        ["ves", "f"],
        ["ves", "fe"],
        ["zes", "z"],
    ],
    "verb": [
        *([two + "ing", one] for two, one in _DOUBLED),
        *([two + "ed", one] for two, one in _DOUBLED),
        *([end + "ing", end + "e"] for end in ("at", "iz", "v", "c", "dg", "u", "bl", "tl")),
        ["ies", "y"],
        ["ied", "y"],
        ["ches", "ch"],
        ["shes", "sh"],
        ["sses", "ss"],
        ["s", ""],
        ["es", ""],
        ["ing", ""],
        ["ing", "e"],
        ["ed", ""],
        ["ed", "e"],
    ],
    "adj": [["ier", "y"], ["iest", "y"], ["er", ""], ["est", ""], ["er", "e"], ["est", "e"]],
}


def lemma_tables(nlp: Language, treebank: Iterable[Sentence], own: Iterable[Sentence]) -> Lookups:
    """Return the rules, the known lemmas, and an exception for each form that the rules get wrong.

    `nlp` provides the vocabulary. The lemma of a form is its most frequent lemma in `own`, or in
    the treebank if `own` does not have the form.
    """
    lemmas = _lemmas_by_form(treebank) | _lemmas_by_form(own)
    # The index is a dict, because spaCy tests membership with `in`.
    index: dict[str, dict[str, int]] = {pos: {} for pos in RULES}
    for (_, pos, _), lemma in lemmas.items():
        if pos.lower() in index:
            index[pos.lower()][lemma] = 1
    lemmatizer = nlp.create_pipe("lemmatizer", config={"mode": "rule"})
    assert isinstance(lemmatizer, Lemmatizer)
    lemmatizer.initialize(lookups=_lookups(index, {}))
    return _lookups(index, _exceptions(lemmatizer, lemmas))


def _lemmas_by_form(sentences: Iterable[Sentence]) -> dict[Form, str]:
    """Return the most frequent lemma of each form."""
    seen: dict[Form, Counter[str]] = defaultdict(Counter)
    for token in chain.from_iterable(sentences):
        letters = token.text.replace("'", "").replace("-", "").isalpha()
        if letters and token.pos not in _UNCHANGED:
            seen[token.text.lower(), token.pos, token.feats][token.lemma.lower()] += 1
    return {form: counts.most_common(1)[0][0] for form, counts in sorted(seen.items())}


def _exceptions(lemmatizer: Lemmatizer, lemmas: dict[Form, str]) -> dict[str, dict[str, list[str]]]:
    exceptions: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for form, lemma in lemmas.items():
        text, pos, _ = form
        if _rule_lemma(lemmatizer, form) != lemma:
            exceptions[pos.lower()][text] = [lemma]
    return dict(exceptions)


def _rule_lemma(lemmatizer: Lemmatizer, form: Form) -> str:
    text, pos, feats = form
    doc = Doc(lemmatizer.vocab, words=[text], pos=[pos], morphs=[feats])
    return str(lemmatizer.lemmatize(doc[0])[0])


def _lookups(
    index: dict[str, dict[str, int]], exceptions: dict[str, dict[str, list[str]]]
) -> Lookups:
    lookups = Lookups()
    lookups.add_table("lemma_rules", RULES)
    lookups.add_table("lemma_index", index)
    lookups.add_table("lemma_exc", exceptions)
    return lookups
