"""Training the morphologizer on the treebank and on generated captions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from random import Random

from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

from tools.tagger.captions import CaptionGrammar
from tools.tagger.inflection import with_s
from tools.tagger.lexicon import Lexicon, Noun, caption_nouns, read_lexicon
from tools.tagger.noun_phrases import NounPhrases
from tools.tagger.pipeline import add_lemmas, morphologizer, untrained
from tools.tagger.sentences import Sentence, Token, caption_style, example


@dataclass(frozen=True)
class Recipe:
    """The parameters of a training run."""

    seed: int = 1
    epochs: int = 9
    captions: int = 8000  # generated anew for each epoch
    caption_style: float = 0.25  # share of the treebank's sentences, chosen anew for each epoch
    batch: int = 48
    dropout: float = 0.3
    learn_rate: float = 0.003


def train(
    treebank: Sequence[Sentence], recipe: Recipe, after_epoch: Callable[[int, Language], None]
) -> Language:
    """Train a pipeline and return it.

    `after_epoch` is called after each epoch with the pipeline, which then has averaged weights.
    """
    fix_random_seed(recipe.seed)
    rng = Random(recipe.seed)
    lexicon = read_lexicon()
    grammar = caption_grammar(lexicon, treebank, rng)
    nlp = untrained([*treebank, *(grammar.caption() for _ in range(recipe.captions))])
    optimizer = Adam(recipe.learn_rate, L2=0.01, grad_clip=1.0, use_averages=True)
    pipe = morphologizer(nlp)
    weights = b""
    for epoch in range(1, recipe.epochs + 1):
        optimizer.learn_rate = recipe.learn_rate * (1 - (epoch - 1) / recipe.epochs)
        for batch in _batches(_epoch(nlp, treebank, grammar, rng, recipe), recipe.batch):
            pipe.update(batch, sgd=optimizer, drop=recipe.dropout)
        with pipe.model.use_params(optimizer.averages):
            after_epoch(epoch, nlp)
            weights = pipe.to_bytes()
    pipe.from_bytes(weights)
    add_lemmas(nlp, treebank, chain(lexicon.forms(), _forms(caption_nouns(lexicon))))
    return nlp


def _epoch(
    nlp: Language,
    treebank: Sequence[Sentence],
    grammar: CaptionGrammar,
    rng: Random,
    recipe: Recipe,
) -> Iterator[Example]:
    """Return the examples of one epoch in random order."""
    sentences = [
        caption_style(sentence, rng) if rng.random() < recipe.caption_style else sentence
        for sentence in treebank
    ]
    sentences += [grammar.caption() for _ in range(recipe.captions)]
    rng.shuffle(sentences)
    return (example(nlp.vocab, sentence) for sentence in sentences)


def _batches(examples: Iterator[Example], size: int) -> Iterator[list[Example]]:
    while batch := list(islice(examples, size)):
        yield batch


def caption_grammar(lexicon: Lexicon, treebank: Sequence[Sentence], rng: Random) -> CaptionGrammar:
    """Return the grammar. Its wild words come from the treebank and from nouns/en.txt."""
    nouns = [_noun(word) for word in _frequent(treebank, "NOUN")] + caption_nouns(lexicon)
    adjectives = [(Token(word, "ADJ", word, "Degree=Pos"),) for word in _frequent(treebank, "ADJ")]
    return CaptionGrammar(lexicon, NounPhrases(lexicon, rng, nouns, adjectives), rng)


def _forms(nouns: Iterable[Noun]) -> Iterator[Sentence]:
    for noun in nouns:
        yield from (form for form in (noun.singular, noun.plural) if form)


def _noun(word: str) -> Noun:
    singular = Token(word, "NOUN", word, "Number=Sing")
    return Noun((singular,), (replace(singular, text=with_s(word), feats="Number=Plur"),))


def _frequent(treebank: Iterable[Sentence], pos: str) -> list[str]:
    """Return, sorted, the base forms that occur at least twice and almost always as `pos`."""
    uses: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in treebank:
        for token in sentence:
            base = token.text == token.lemma and "Plur" not in token.feats
            uses[token.text.lower()][token.pos if base else ""] += 1
    return sorted(
        word
        for word, counts in uses.items()
        if word.isalpha() and len(word) > 2 and counts[pos] >= max(2, 0.9 * counts.total())
    )
