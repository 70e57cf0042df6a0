"""The card of `captiond/english`: what is in the folder, from what, how, and how good it is."""

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

A small English spaCy pipeline for captions: parts of speech and lemmas, {megabytes:.1f} MB. It is
there so that captiond makes tags without a download. It has no parser and no vectors; captiond
finds the noun phrases by the parts of speech.

## Data

- The training part of the UD English Web Treebank 2.15
  (<https://github.com/UniversalDependencies/UD_English-EWT>), annotations © 2013–2021 The Board of
  Trustees of The Leland Stanford Junior University, CC BY-SA 4.0: {sentences:,} sentences. A
  quarter of them, drawn anew in each epoch, is lower-cased and without its full stop, as captions
  are. Of the features, those alone that lemmas and noun phrases ask for.
- {captions:,} captions of our own in each epoch, made by the grammar in
  `tools/tagger/templates.txt` from the words in `tools/tagger/words.txt` and
  `captiond/tagging/nouns/en.txt`, such as:
{examples}

No caption of the gold set (`tests/data/tags_gold_*.txt`) is among them.

## Recipe

```
{command}
```

A morphologizer, {width} wide: hash embeddings of {attrs}
(of {rows} rows), and {depth} maxout layers, so that a word sees {depth} words to
either side. Trained for {epochs} epochs in batches of {batch} sentences with Adam, rate
{learn_rate} falling to nothing, dropout {dropout}, weights averaged, seed {seed}. Then spaCy's rule
lemmatizer, with tables made from the same sentences and words, and one rule: *glasses* that are
counted (`Number=Plur`) are of a *glass*, those that are worn are not.

It took {minutes:.0f} minutes on one core ({machine}).

## Score

On the treebank's dev part, which training does not see:

| | UPOS | lemma |
|---|---|---|
| on the treebank's words | {score.pos:.2%} | {score.lemma:.2%} |
| from raw text (words cut as in the treebank: {score.token:.2%}) | {score.text_pos:.2%} | \
{score.text_lemma:.2%} |

How good the tags are that captiond makes with it: `make tags-report`, and `docs/tags.md`.

## Limits

It is for captions: short, descriptive, in the present. In other text its parts of speech are those
of a small model; names are often taken for nouns, and a verb in *-ing* before a noun for an
adjective. It knows no syntax and no entities.

## Licence

Made from the treebank, so under the treebank's licence: CC BY-SA 4.0
(<https://creativecommons.org/licenses/by-sa/4.0/legalcode>). Of the treebank, trained weights and
the base and irregular forms of words are in this folder, and no sentence.
"""


@dataclass(frozen=True, slots=True)
class Training:
    """One training run, as the card tells it."""

    recipe: Recipe
    sentences: int
    seconds: float
    machine: str
    command: str


def write_card(folder: Path, training: Training, score: Scores, examples: list[str]) -> None:
    """Write README.md into `folder`."""
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
