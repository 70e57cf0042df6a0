"""Measure what the rules for captions do: python -m tools.scenes.wording [SCENES] [--speed]

The tables have how many captions of the embedded model are exact with and without the rules; which
good captions each rule would change; and what becomes of captions that went wrong, those of
tests/data/bad_captions.txt. With `--speed`, a model of BLIP-base's shape with random weights, which
ends no caption, measures how long a batch takes with the rules of the search, and with more tokens.
With 0 scenes, there are no captions of scenes.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captiond.captioners.blip.captioner import Blip, forward_of, hallucinations
from captiond.captioners.blip.random_weights import END, VOCABULARY
from captiond.captioners.blip.search import EncoderDecoder, Search
from captiond.captioners.choices import default_choices
from captiond.captioners.files import EMBEDDED
from captiond.captioners.logits import BannedTokens
from captiond.captioners.protocol import Placement
from captiond.captioners.sequences import SpecialTokens
from captiond.captioners.worded import worded
from captiond.decoding.decode import decode
from captiond.jobs import Caption, Generation
from captiond.settings.config import ImageSettings, Settings
from captiond.wording.cutting import end_of_last_word
from captiond.wording.looping import first_repeat
from captiond.wording.tidying import TextRules, tidied
from tests.parrot import bad_captions, parroted
from tools.markdown import table
from tools.runtimes.parts import new_model
from tools.runtimes.ways import BEGIN
from tools.scenes.dataset import Sample, draw_sample
from tools.scenes.evaluation import EVALUATION_SEED

SCENES, BATCH = 2000, 50
DATA = Path(__file__).parents[2] / "tests" / "data"
HERE = Placement(torch.device("cpu"), "fp32")
INVENTED = re.compile(r"\b(?:araf(?!at)|arraf|ray ?-? ?bans?\b|rayban|blury\b|amplisk)")
UNENDED = Generation(min_new_tokens=100)
WAYS: Mapping[str, tuple[Generation, bool]] = {
    "no rules, 20 tokens": (UNENDED, False),
    "all rules, 20 tokens": (replace(UNENDED, no_repeat_ngram_size=6), True),
    "all rules, 30 tokens": (replace(UNENDED, no_repeat_ngram_size=6, max_new_tokens=30), True),
}
PATCHES, WIDTH = 577, 768  # the features of an image
SIZES = (2, 3, 4, 5, 6, 8)  # of sequences of words
IMAGES, ROUNDS = 8, 4  # of a batch; batches of each way
PLAIN = Generation(max_new_tokens=24)  # all captions of scenes end before
DEFAULTS = replace(Settings().default_generation, max_new_tokens=24)
RULES = Settings().captions.text_rules
SINGLE_RULES: Mapping[str, TextRules] = {
    name: TextRules(**{name: True}) for name in TextRules.__dataclass_fields__
}


def main(size: int, *, speed: bool) -> None:
    """Print the tables."""
    samples = [draw_sample(EVALUATION_SEED, number) for number in range(size)]
    if samples:
        sys.stdout.write(exact_table(samples) + "\n")
    sys.stdout.write(changes_table([sample.caption for sample in samples]) + "\n")
    sys.stdout.write(bad_table() + "\n")
    if speed:
        sys.stdout.write(speed_table() + "\n")


# ---------------------------------------------------------------- captions of scenes


def exact_table(samples: list[Sample]) -> str:
    """Return the table of exact captions, with and without the rules."""
    short = replace(DEFAULTS, max_new_tokens=12)
    hard = replace(short, rules=replace(short.rules, finish_tokens=0))
    ways = {
        "without the rules": (PLAIN, TextRules()),
        "with the rules": (DEFAULTS, RULES),
        "with a limit of 12 tokens, and 10 more": (short, RULES),
        "with a limit of 12 tokens, and no more": (hard, RULES),
    }
    captions = scene_captions(samples, list(ways.values()))
    by_way = dict(zip(ways, captions, strict=True))
    truth = [sample.caption for sample in samples]
    rows = [
        (
            name,
            f"{sum(map(str.__eq__, truth, (each.text for each in found))) / len(truth):.1%}",
            str(sum(each.raw is not None for each in found)),
            str(sum(map(is_bad, found))),
        )
        for name, found in by_way.items()
    ]
    return table(("captions of scenes", "exact", "changed", "loops, banned or cut"), rows)


def scene_captions(
    samples: list[Sample], ways: list[tuple[Generation, TextRules]]
) -> list[list[Caption]]:
    """Return the embedded model's captions of the samples in each way."""
    blip = Blip.load(EMBEDDED["captiond/scenes"], HERE)
    found: list[list[Caption]] = [[] for _ in ways]
    for start in range(0, len(samples), BATCH):
        files = (BytesIO(sample.jpeg) for sample in samples[start : start + BATCH])
        pixels = np.stack([decode(file, blip.geometry, ImageSettings())[0] for file in files])
        for captions, (generation, rules) in zip(found, ways, strict=True):
            caption = worded(blip.caption, rules)
            captions += [best for best, *_ in caption(pixels, generation, None)]
    return found


def is_bad(caption: Caption) -> bool:
    """Return whether a caption loops, has a banned word, or ends in the middle of a phrase."""
    text = caption.text
    looped = first_repeat(text, 0) is not None
    ends = end_of_last_word(text, 0) < len(text)
    return looped or ends or INVENTED.search(text) is not None


# ---------------------------------------------------------------- good captions


def changes_table(scenes: list[str]) -> str:
    """Return the table of good captions that each rule would change."""
    sets = {"true captions of scenes": scenes, "captions by hand": gold_captions()}
    changed_by: dict[str, Callable[[str], bool]] = {}
    for name, rules in SINGLE_RULES.items():
        changed_by[f"`{name}`"] = partial(changes, rules)
    for size in SIZES:
        changed_by[f"`no_repeat_ngram_size = {size}`"] = partial(repeats, size)
    rows = [
        (name, *(f"{sum(map(is_changed, texts))} of {len(texts)}" for texts in sets.values()))
        for name, is_changed in changed_by.items()
    ]
    return table(("good captions that would change", *sets), rows)


def gold_captions() -> list[str]:
    """Return captions in BLIP's style, written by hand."""
    files = (DATA / "tags_gold_tune.txt", DATA / "tags_gold_heldout.txt")
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [line.split(" | ")[0] for line in lines if line and not line.startswith("#")]


def changes(rules: TextRules, text: str) -> bool:
    return tidied(Caption(text, 0.0), rules).raw is not None


def repeats(size: int, text: str) -> bool:
    """Return whether a text has a sequence of so many words twice."""
    words = re.findall(r"\w+|[^\w\s]", text)
    sequences = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    return len(set(sequences)) < len(sequences)


# ---------------------------------------------------------------- bad captions


def bad_table() -> str:
    """Return the table of captions that went wrong."""
    rows = []
    for kind in ("loop", "cut", "space"):
        bad = bad_captions(kind)
        mended = [tidied(Caption(each.text, 0.0, ended=kind != "cut"), RULES) for each in bad]
        right = sum(each.better == caption.text for each, caption in zip(bad, mended, strict=True))
        still = sum(first_repeat(each.text, 0) is not None for each in mended)
        rows.append((kind, str(len(bad)), str(right), str(still)))
    texts = [each.text for each in bad_captions("banned")]
    written = parroted(texts, hallucinations(), Generation(max_new_tokens=40))
    left = sum(INVENTED.search(text) is not None for text in written)
    rows.append(("banned", str(len(texts)), str(len(texts) - left), str(left)))
    return table(("captions that went wrong", "number", "mended", "still wrong"), rows)


# ---------------------------------------------------------------- speed


def speed_table() -> str:
    """Return the table of the times of a batch's token steps, compared round by round."""
    times = timed(random_search(), WAYS)
    first = times[next(iter(WAYS))]
    rows = [
        (
            name,
            f"{statistics.median(seconds):.3f} s",
            f"{statistics.median(map(float.__truediv__, first, seconds)):.3f}",
        )
        for name, seconds in times.items()
    ]
    header = (f"token steps of {IMAGES} images", "median", "rate, compared with the first row")
    return table(header, rows)


class Encoded:
    """An encoder and decoder whose images are encoded already."""

    def __init__(self, model: EncoderDecoder) -> None:
        self.positions, self.shrink_below = model.positions, model.shrink_below
        self.prefill, self.release_buffers = model.prefill, model.release_buffers

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels


def random_search() -> Search:
    """Return the search of a model of BLIP-base's shape, in one thread."""
    torch.set_num_threads(1)
    forward = forward_of(new_model(), "fp32", default_choices("fp32"))
    return Search(Encoded(forward), SpecialTokens(BEGIN, END, 0))


def banned_tokens() -> BannedTokens:
    """Return sequences as numerous and as long as those of BLIP's list with BERT's vocabulary."""
    draw = np.random.default_rng(1)
    prefixes = [tuple(draw.integers(1000, VOCABULARY, 1 + n % 5).tolist()) for n in range(100)]
    lasts = draw.integers(1000, VOCABULARY, (len(prefixes), 118)).tolist()
    pairs = zip(prefixes, lasts, strict=True)
    sequences = tuple((*prefix, last) for prefix, of_prefix in pairs for last in of_prefix)
    return BannedTokens.on(torch.device("cpu"), sequences, VOCABULARY)


@torch.inference_mode()
def timed(search: Search, ways: Mapping[str, tuple[Generation, bool]]) -> dict[str, list[float]]:
    """Return the seconds of each way. The ways take turns, so that all have the same conditions."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(IMAGES, PATCHES, WIDTH, generator=generator)
    banned = banned_tokens()
    for round_ in range(ROUNDS + 1):
        for name, (generation, bans) in ways.items():
            begun = time.perf_counter()
            search(features, torch.tensor([BEGIN]), generation, banned if bans else None)
            if round_:  # the first round allocates memory
                times[name].append(time.perf_counter() - begun)
    return times


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdecimal()]
    main(numbers[0] if numbers else SCENES, speed="--speed" in sys.argv)
