"""The cost of scoring 1,000 tags, beside that of captions, in BLIP-base's shape."""

import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from transformers.models.blip.modeling_blip import BlipForImageTextRetrieval

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.blip.random_weights import (
    config_of,
    write_processor,
    write_random_model,
    write_tokenizer,
)
from captiond.captioners.blip.tag_likelihood import (
    MOST_NODES,
    TagLikelihood,
    least_of_firsts,
    likelihoods_of,
)
from captiond.captioners.blip.tag_reading import TagReading
from captiond.captioners.blip.tag_scorer import CANDIDATES
from captiond.captioners.blip.token_trie import TokenTrie, trie_of
from captiond.captioners.protocol import Placement
from captiond.jobs import Generation

TAGS = 1000
SHARES = {1: 0.55, 2: 0.30, 3: 0.15}  # of tags with so many tokens
WORDS = range(2000, 30_000)  # token ids
HEAD, LEADS = [30_522, 2001, 2002], [2003, 2004]  # "a photo of", "a" and "an"
CAPTION_PLACES = (3, 8, 14)  # where the captions have an "a"


def print_cost(images: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        captioner, matcher = Path(name) / "captioner", Path(name) / "matcher"
        write_random_model("base", captioner)
        write_random_matcher(matcher)
        placement = Placement(torch.device("cpu"), "fp32", matcher=matcher)
        blip = Blip.load(captioner, placement)
    measure(blip, images)


def write_random_matcher(folder: Path) -> None:
    """Write a matching model of random weights in BLIP-base's shape."""
    torch.manual_seed(1)
    BlipForImageTextRetrieval(config_of("base")).save_pretrained(folder)
    write_tokenizer(folder)
    write_processor(folder)


@torch.inference_mode()
def measure(blip: Blip, images: int) -> None:
    """Print how long captions take, and tags and matching beside them."""
    pixels = torch.randint(0, 256, (images, 384, 384, 3), dtype=torch.uint8)
    scorer, matching = blip._scorer, blip._matching
    assert scorer is not None
    blip.search(pixels[:1], Generation(max_new_tokens=2))  # warms up
    caption, sequences = timed(lambda: blip.search(pixels, Generation()))
    print(f"captions of {images} images: {caption:.2f} s")
    texts = sequences.tokens[:, 0].tolist()
    for text in texts:
        for place in CAPTION_PLACES:
            text[place] = LEADS[0]
    features = sequences.features
    assert features is not None
    for tokens in ({2: 1.0}, SHARES):
        trie = random_trie(tokens)
        seconds, _ = timed(partial(read, scorer._likelihood, features, texts, trie))
        print(
            f"{TAGS} tags of {mean(tokens):.1f} tokens, {trie.nodes} beginnings: "
            f"{seconds:.2f} s, {seconds / caption:.2f} of the captions"
        )
    if matching is not None:
        candidates = [[f"a photo of a {n}" for n in range(CANDIDATES)]] * images
        seconds, _ = timed(partial(matching._matcher.of_each, features, candidates))
        print(
            f"matching of {CANDIDATES} tags, without the encoding: {seconds:.2f} s, "
            f"{seconds / caption:.2f} of the captions"
        )


def read(
    likelihood: TagLikelihood, features: torch.Tensor, texts: list[list[int]], trie: TokenTrie
) -> None:
    """Read as many nodes as an image may need: no text is hopeless."""
    needs = least_of_firsts(trie, torch.full((TAGS,), -1e6))
    for image, text in zip(features, texts, strict=True):
        reading = TagReading.begin(likelihood._forward, image[None], [text], trie, HEAD, LEADS)
        likelihoods_of(reading, needs, MOST_NODES)


def random_trie(shares: dict[int, float]) -> TokenTrie:
    rng = random.Random(1)
    firsts = rng.sample(WORDS, TAGS)
    lengths = rng.choices([*shares], [*shares.values()], k=TAGS)
    texts = [
        [first, *rng.choices(WORDS, k=length - 1)]
        for first, length in zip(firsts, lengths, strict=True)
    ]
    return trie_of(texts, rng.choices(range(len(LEADS)), k=TAGS), torch.device("cpu"))


def mean(shares: dict[int, float]) -> float:
    return sum(tokens * share for tokens, share in shares.items())


T = TypeVar("T")


def timed(run: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    result = run()
    return time.perf_counter() - begun, result
