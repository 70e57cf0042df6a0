"""Print the quality of the tags of `captiond/english`, and with --speed how fast they are result.

python -m tools.tags_report [--speed]

`make tags-report` runs it with --speed.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from captiond.tagging.lexicon import read_lexicon
from captiond.tagging.tagger import Tagger
from tools.scenes.sample import sample_scene
from tools.scenes.scene import caption
from tools.tags.gold import Report, read_gold, report
from tools.train_tagger import captions

GOLD = Path(__file__).resolve().parent.parent / "tests" / "data"
HALVES = {"tuning": GOLD / "tags_gold_tune.txt", "held-out": GOLD / "tags_gold_heldout.txt"}
SPEED_CAPTIONS, BATCHES = 20_000, (1, 8, 64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.tags_report", description=__doc__)
    parser.add_argument("--speed", action="store_true", help="measure the speed as well")
    options = parser.parse_args(arguments)
    tagger, lexicon = Tagger.load("en", "captiond/english"), read_lexicon("en")
    for half, path in HALVES.items():
        gold = list(read_gold(path))
        result = report(tagger, lexicon, gold)
        print_half(half, len(gold), result)
        if half == "tuning":  # Nobody may tune by the mistakes of the held-out half.
            print_mistakes(result)
    if options.speed:
        print_speed()


def print_half(half: str, captions: int, result: Report) -> None:
    """Print the scores of one half of the gold set."""
    print(f"\nThe {half} half: {captions} captions")
    print("            precision  recall      F1    tags")
    for rule, score in result.scores.items():
        figures = f"{score.precision:9.3f} {score.recall:7.3f} {score.f1:7.3f} {score.gold:7d}"
        print(f"  {rule:9s} {figures}")
    correct, inflected = result.lemmas
    print(f"  lemmas of inflected nouns: {correct} of {inflected}, {correct / inflected:.1%}")
    known, named = result.known / result.nouns, result.named / result.nouns
    print(
        f"  nouns with a category: {known:.1%} of {result.nouns}; other than `other`: {named:.1%}"
    )


def print_mistakes(result: Report) -> None:
    """Print each caption with a mistake: a wrong tag has a plus, a missing one a minus."""
    print(f"  captions with a mistake: {len(result.mistakes)}")
    for mistake in result.mistakes:
        wrong = [f"+{tag}" for tag in sorted(mistake.wrong)]
        missing = [f"-{tag}" for tag in sorted(mistake.missing)]
        print(f"    {mistake.caption}: {', '.join(wrong + missing)}")


def print_speed() -> None:
    """Print the speed for two kinds of text, with the cache and without it."""
    print("\nCaptions per second of processor time of this process")
    rng = Random(0)
    texts = {
        "captions of the training grammar": captions(SPEED_CAPTIONS),
        "drawn scenes": [caption(sample_scene(rng)) for _ in range(SPEED_CAPTIONS)],
    }
    for name, stream in texts.items():
        print(f"  {name}, {len(set(stream)) / len(stream):.1%} of them different")
        for batch in BATCHES:
            without, _ = speed(stream, batch, cache_size=0)
            with_cache, hits = speed(stream, batch, cache_size=4096)
            rates = f"{without:7,.0f} without the cache, {with_cache:7,.0f} with it"
            print(f"    in batches of {batch:2d}: {rates} ({hits:.1%} hits)")


def speed(texts: Sequence[str], batch: int, *, cache_size: int) -> tuple[float, float]:
    """Return captions per second, and the share of the captions that the cache knew."""
    tagger = Tagger.load("en", "captiond/english", cache_size=cache_size)
    tagger.tag(captions(100))
    tagger.hits = 0
    started = time.process_time()
    for start in range(0, len(texts), batch):
        tagger.tag(texts[start : start + batch])
    return len(texts) / (time.process_time() - started), tagger.hits / len(texts)


if __name__ == "__main__":
    main()
