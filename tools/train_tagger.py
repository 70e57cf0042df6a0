"""Train and evaluate captiond/english, the small English pipeline that is shipped with captiond.

    python -m tools.train_tagger --treebank FOLDER --out captiond/embedded/english
    python -m tools.train_tagger --treebank FOLDER --evaluate captiond/embedded/english

FOLDER has `en_ewt-train.conllu.xz` and `en_ewt-dev.conllu.xz` of the UD English Web Treebank.
"""

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import spacy
from spacy.language import Language

from tools.tagger.captions import CaptionGrammar
from tools.tagger.card import Training, write_card
from tools.tagger.evaluation import evaluate
from tools.tagger.lexicon import read_lexicon
from tools.tagger.noun_phrases import NounPhrases
from tools.tagger.sentences import Sentence, text_of
from tools.tagger.storage import folder_bytes, save
from tools.tagger.training import Recipe, train
from tools.tagger.treebank import read_treebank

EXAMPLES = 6  # captions in the card


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or evaluate as the command line says, and print the scores."""
    options = _parser().parse_args(arguments)
    dev = list(read_treebank(options.treebank / "en_ewt-dev.conllu.xz"))
    training = list(read_treebank(options.treebank / "en_ewt-train.conllu.xz"))
    recipe, started = Recipe(seed=options.seed, epochs=options.epochs), time.monotonic()
    if options.out:
        save(train(training, recipe, _progress(dev)), options.out)
    seconds = time.monotonic() - started
    folder = options.out or options.evaluate
    nlp = spacy.load(folder)
    score = evaluate(nlp, dev)
    print(f"dev: {score}")
    if options.out:
        run = Training(recipe, len(training), seconds, platform.machine(), _command(recipe))
        write_card(folder, run, score, captions(EXAMPLES))
    print(f"{folder_bytes(folder) / 1e6:.1f} MB; {captions_per_second(nlp):,.0f} captions a second")


def _command(recipe: Recipe) -> str:
    """Return the command that trains this pipeline again. FOLDER is the folder of the treebank."""
    return (
        "python -m tools.train_tagger --treebank FOLDER --out captiond/embedded/english "
        f"--seed {recipe.seed} --epochs {recipe.epochs}"
    )


def captions(count: int) -> list[str]:
    """Return captions of the grammar. They are the same in each call."""
    lexicon, rng = read_lexicon(), Random(0)
    grammar = CaptionGrammar(lexicon, NounPhrases(lexicon, rng), rng)
    return [text_of(grammar.caption()) for _ in range(count)]


def _progress(dev: Sequence[Sentence]) -> Callable[[int, Language], None]:
    started = time.monotonic()

    def report(epoch: int, nlp: Language) -> None:
        spent = time.monotonic() - started
        print(f"epoch {epoch}, {spent:.0f} s: {evaluate(nlp, dev)}", flush=True)

    return report


def captions_per_second(nlp: Language, count: int = 20000) -> float:
    """Return the captions of the grammar that the pipeline processes per second of CPU time."""
    texts = captions(count)
    list(nlp.pipe(texts[:1000]))
    started = time.process_time()
    for _ in nlp.pipe(texts, batch_size=256):
        pass
    return count / (time.process_time() - started)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_tagger",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--treebank", type=Path, required=True, metavar="FOLDER")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--out", type=Path, metavar="FOLDER", help="train, and write the pipeline to this folder"
    )
    what.add_argument(
        "--evaluate", type=Path, metavar="FOLDER", help="only evaluate the pipeline in this folder"
    )
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    return parser


if __name__ == "__main__":
    main()
