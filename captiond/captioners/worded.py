"""Captions whose texts follow the rules of the settings, whatever captioner writes them."""

from dataclasses import replace

from captiond.captioners.devices import BatchPixels
from captiond.captioners.memory import CaptionBatch
from captiond.jobs import Caption, Generation
from captiond.vocabulary import Vocabulary
from captiond.wording.tidying import TextRules, tidied

FEWER = "num_captions: captions with the same text are returned once"  # a note of a result


def worded(caption: CaptionBatch, rules: TextRules) -> CaptionBatch:
    """Return `caption`, changed to word its captions as the rules want it."""

    def captions(
        pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None
    ) -> list[tuple[Caption, ...]]:
        prompted = bool(generation.prompt)
        return [
            each_once(tuple(tidied(each, rules, prompted=prompted) for each in of_image))
            for of_image in caption(pixels, generation, vocabulary)
        ]

    return captions


def each_once(captions: tuple[Caption, ...]) -> tuple[Caption, ...]:
    """Return the captions of an image, those with the same text once: the rules make some equal.

    The best caption has a note if there are fewer now.
    """
    first: dict[str, Caption] = {}
    for caption in captions:
        first.setdefault(caption.text, caption)
    if len(first) == len(captions):
        return captions
    best, *others = first.values()
    return (replace(best, notes=(*best.notes, FEWER)), *others)
