"""The scores of a pipeline on the sentences of a treebank, per word."""

from collections.abc import Sequence
from dataclasses import dataclass

from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example

from tools.tagger.sentences import Sentence, example, text_of

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares of words with the correct part of speech or lemma, from 0 to 1.

    `pos` and `lemma` are measured on the words of the treebank. `text_pos` and `text_lemma` are
    measured on raw text. `token` is the share of words that the tokenizer splits as the treebank
    does; only these can be correct in raw text.
    """

    pos: float
    lemma: float
    text_pos: float
    text_lemma: float
    token: float

    def __str__(self) -> str:
        return (
            f"on the treebank's words: UPOS {self.pos:.2%}, lemma {self.lemma:.2%}; "
            f"from raw text: UPOS {self.text_pos:.2%}, lemma {self.text_lemma:.2%} "
            f"(words {self.token:.2%})"
        )


def evaluate(nlp: Language, sentences: Sequence[Sentence]) -> Scores:
    """Run `nlp` on the sentences as words and as text. The comparison of lemmas ignores case."""
    gold = [example(nlp.vocab, sentence).reference for sentence in sentences]
    words = [example(nlp.vocab, sentence).predicted for sentence in sentences]
    pos, lemma = _shares(gold, list(nlp.pipe(words, batch_size=_BATCH)))
    texts = nlp.pipe((text_of(sentence) for sentence in sentences), batch_size=_BATCH)
    examples = [Example(doc, ref) for doc, ref in zip(texts, gold, strict=True)]
    from_text = Scorer(nlp).score(examples)
    return Scores(
        pos=pos,
        lemma=lemma,
        text_pos=from_text["pos_acc"],
        text_lemma=from_text.get("lemma_acc", 0.0),
        token=from_text["token_acc"],
    )


def _shares(gold: Sequence[Doc], predicted: Sequence[Doc]) -> tuple[float, float]:
    pairs = [
        pair
        for ref, doc in zip(gold, predicted, strict=True)
        for pair in zip(ref, doc, strict=True)
    ]
    same_pos = sum(ref.pos == token.pos for ref, token in pairs)
    same_lemma = sum(ref.lemma_.lower() == token.lemma_.lower() for ref, token in pairs)
    return same_pos / len(pairs), same_lemma / len(pairs)
