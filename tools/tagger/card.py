"""The card of captiond/english, README.md in its folder: data, recipe, scores and limits."""

from dataclasses import dataclass
from pathlib import Path

from tools.tagger.evaluation import Scores
from tools.tagger.pipeline import DEPTH, ROWS, WIDTH
from tools.tagger.storage import folder_bytes
from tools.tagger.training import Recipe

_CARD = """---
license: cc-by-sa-4.0
language: en
library_name: spacy
pipeline_tag: token-classification
tags: [spacy, captions]
---

# captiond/english

A small English spaCy pipeline for captions: parts of speech and lemmas, {megabytes:.1f} MB. With
it, captiond makes tags without a download. It has no parser and no vectors. captiond recognises
noun phrases by the parts of speech.

## Data

- The training part of the UD English Web Treebank 2.15
  (<https://github.com/UniversalDependencies/UD_English-EWT>), annotations © 2013–2021 The Board of
  Trustees of The Leland Stanford Junior University, CC BY-SA 4.0: {sentences:,} sentences. In
  each epoch, a random quarter of them is changed to the style of captions: lower case, mostly
  without the full stop. Only those morphological features are kept that lemmas and noun phrases
  need.
- {captions:,} generated captions in each epoch. The grammar in
  `tools/tagger/templates.txt` makes them from the words in `tools/tagger/words.txt` and
  `captiond/tagging/nouns/en.txt`. Examples:
{examples}

No caption of the gold set (`tests/data/tags_gold_*.txt`) was used for training.

## Recipe

```
{command}
```

The first component is a morphologizer of width {width}. It has hash embeddings of {attrs}
({rows} rows) and {depth} maxout layers, so that the tag of a word depends on {depth} words
to the left and to the right. It was trained for {epochs} epochs in batches of {batch} sentences
with Adam, a learning rate of {learn_rate} that falls to 0, dropout {dropout}, averaged weights and
seed {seed}.

The second component is spaCy's rule lemmatizer, with tables made from the same sentences and words.
The third is one rule: the lemma of *glasses* with `Number=Plur` is *glass*; the glasses that a
person wears keep their lemma *glasses*.

Training took {minutes:.0f} minutes on one core ({machine}).

## Score

On the dev part of the treebank, which training does not use:

| | UPOS | lemma |
|---|---|---|
| on the words of the treebank | {score.pos:.2%} | {score.lemma:.2%} |
| on raw text (words split as in the treebank: {score.token:.2%}) | {score.text_pos:.2%} | \
{score.text_lemma:.2%} |

`make tags-report` prints the quality of the tags that captiond makes with this pipeline;
`docs/tags.md` explains the figures.

## Limits

The pipeline is made for captions: short descriptions in the present tense. In other text it makes
the mistakes of a small model: it often tags names as nouns, and a verb in *-ing* before a noun as
an adjective. It has no syntax and no named entities.

## Licence

The pipeline is made from the treebank and has the treebank's licence: CC BY-SA 4.0
(<https://creativecommons.org/licenses/by-sa/4.0/legalcode>). This folder contains weights that were
trained on the treebank, and the base forms and irregular forms of its words. It contains no
sentences of the treebank.
"""


@dataclass(frozen=True, slots=True)
class Training:
    """What the card says about the training run."""

    recipe: Recipe
    sentences: int
    seconds: float
    machine: str
    command: str


def write_card(folder: Path, training: Training, score: Scores, examples: list[str]) -> None:
    """Write README.md to `folder`."""
    recipe = training.recipe
    card = _CARD.format(
        **vars(recipe),
        megabytes=folder_bytes(folder) / 1e6,
        sentences=training.sentences,
        examples="\n".join(f'  - "{example}"' for example in examples),
        command=training.command,
        attrs=", ".join(ROWS),
        rows=", ".join(f"{rows:,}" for rows in ROWS.values()),
        width=WIDTH,
        depth=DEPTH,
        minutes=training.seconds / 60,
        machine=training.machine,
        score=score,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
