"""The components of captiond/english: a morphologizer, a rule lemmatizer, and one exception."""

from collections.abc import Iterable
from typing import Any

import spacy
from spacy.language import Language
from spacy.pipeline import AttributeRuler, Lemmatizer, Morphologizer

from tools.tagger.lemmas import lemma_tables
from tools.tagger.sentences import Sentence, example

WIDTH = 96
DEPTH = 2  # layers; each lets a word depend on one more word to the left and to the right
ROWS = {"NORM": 6000, "PREFIX": 1000, "SUFFIX": 3000, "SHAPE": 500}

META = {
    "name": "captiond_english",
    "version": "1.0.0",
    "spacy_version": ">=3.8.0,<4.0.0",
    "description": "A small English pipeline for captions: part of speech and lemma.",
    "author": "captiond",
    "license": "CC BY-SA 4.0",
    "sources": [
        {
            "name": "UD English Web Treebank 2.15",
            "url": "https://github.com/UniversalDependencies/UD_English-EWT",
            "license": "CC BY-SA 4.0",
            "author": "The Board of Trustees of The Leland Stanford Junior University",
        }
    ],
}


def untrained(sentences: Iterable[Sentence]) -> Language:
    """Return an untrained English pipeline whose morphologizer has the labels of `sentences`."""
    nlp = spacy.blank("en", meta=META)
    nlp.add_pipe("morphologizer", config={"model": _tagger_model()})
    examples = [example(nlp.vocab, sentence) for sentence in sentences]
    nlp.initialize(lambda: examples)
    return nlp


def add_lemmas(nlp: Language, treebank: Iterable[Sentence], own: Iterable[Sentence]) -> None:
    """Add the lemmatizer after the morphologizer. The lemmas in `own` have priority."""
    tables = lemma_tables(nlp, treebank, own)
    lemmatizer = nlp.add_pipe("lemmatizer", config={"mode": "rule"})
    assert isinstance(lemmatizer, Lemmatizer)
    lemmatizer.initialize(lookups=tables)
    ruler = nlp.add_pipe("attribute_ruler")
    assert isinstance(ruler, AttributeRuler)
    # The lemma of glasses to drink from is "glass"; the lemma of glasses to wear is "glasses". The
    # lemmatizer cannot distinguish them, because it does not use morphological features.
    plural = {"IS_SUPERSET": ["Number=Plur"]}
    drunk_from: dict[int | str, Any] = {"LOWER": "glasses", "MORPH": plural}
    ruler.add(patterns=[[drunk_from]], attrs={"LEMMA": "glass"})


def morphologizer(nlp: Language) -> Morphologizer:
    """Return the morphologizer, which is the only trained component of the pipeline."""
    pipe = nlp.get_pipe("morphologizer")
    assert isinstance(pipe, Morphologizer)
    return pipe


def _tagger_model() -> dict[str, Any]:
    return {
        "@architectures": "spacy.Tagger.v2",
        "tok2vec": {
            "@architectures": "spacy.Tok2Vec.v2",
            "embed": {
                "@architectures": "spacy.MultiHashEmbed.v2",
                "width": WIDTH,
                "attrs": list(ROWS),
                "rows": list(ROWS.values()),
                "include_static_vectors": False,
            },
            "encode": {
                "@architectures": "spacy.MaxoutWindowEncoder.v2",
                "width": WIDTH,
                "depth": DEPTH,
                "window_size": 1,
                "maxout_pieces": 3,
            },
        },
    }
