"""How good and how quick the tags of `captiond/english` are: what `make tags-report` prints.

python -m tools.tags_report [--speed]
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
    parser.add_argument("--speed", action="store_true", help="measure the speed too")
    options = parser.parse_args(arguments)
    tagger, lexicon = Tagger.load("en", "captiond/english"), read_lexicon("en")
    for half, path in HALVES.items():
        gold = list(read_gold(path))
        made = report(tagger, lexicon, gold)
        print_half(half, len(gold), made)
        if half == "tuning":  # whoever looked at the other half's would tune by them
            print_mistakes(made)
    if options.speed:
        print_speed()


def print_half(half: str, captions: int, made: Report) -> None:
    print(f"\nThe {half} half: {captions} captions")
    print("            precision  recall      F1    tags")
    for rule, score in made.scores.items():
        figures = f"{score.precision:9.3f} {score.recall:7.3f} {score.f1:7.3f} {score.gold:7d}"
        print(f"  {rule:9s} {figures}")
    right, inflected = made.lemmas
    print(f"  lemmas of inflected nouns: {right} of {inflected}, {right / inflected:.1%}")
    known, named = made.known / made.nouns, made.named / made.nouns
    print(f"  nouns with a category: {known:.1%} of {made.nouns}; with one but other: {named:.1%}")


def print_mistakes(made: Report) -> None:
    print(f"  captions with a mistake: {len(made.mistakes)}")
    for mistake in made.mistakes:
        too_many = [f"+{tag}" for tag in sorted(mistake.too_many)]
        missing = [f"-{tag}" for tag in sorted(mistake.missing)]
        print(f"    {mistake.caption}: {', '.join(too_many + missing)}")


def print_speed() -> None:
    """Processor time of this process alone, on texts of two kinds, with and without the cache."""
    print("\nCaptions a second of processor time")
    rng = Random(0)
    texts = {
        "all different (the grammar's)": captions(SPEED_CAPTIONS),
        "drawn scenes": [caption(sample_scene(rng)) for _ in range(SPEED_CAPTIONS)],
    }
    for name, stream in texts.items():
        print(f"  {name}, {len(set(stream)) / len(stream):.1%} of them new")
        for batch in BATCHES:
            without, _ = speed(stream, batch, cache_size=0)
            with_cache, hits = speed(stream, batch, cache_size=4096)
            rates = f"{without:7,.0f} without a cache, {with_cache:7,.0f} with one"
            print(f"    in batches of {batch:2d}: {rates} ({hits:.1%} hits)")


def speed(texts: Sequence[str], batch: int, *, cache_size: int) -> tuple[float, float]:
    """Captions a second, and the share that the cache knew."""
    tagger = Tagger.load("en", "captiond/english", cache_size=cache_size)
    tagger.tag(captions(100))
    tagger.hits = 0
    started = time.process_time()
    for start in range(0, len(texts), batch):
        tagger.tag(texts[start : start + batch])
    return len(texts) / (time.process_time() - started), tagger.hits / len(texts)


if __name__ == "__main__":
    main()
