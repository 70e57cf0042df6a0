"""Captions whose texts follow the rules of the settings, whatever captioner writes them."""

from captiond.captioners.memory import CaptionBatch
from captiond.decoding.decode import Pixels
from captiond.jobs import Caption, Generation
from captiond.vocabulary import Vocabulary
from captiond.wording.tidying import TextRules, tidied


def worded(caption: CaptionBatch, rules: TextRules) -> CaptionBatch:
    """Return `caption`, changed to word its captions as the rules want it."""

    def captions(
        pixels: Pixels, generation: Generation, vocabulary: Vocabulary | None
    ) -> list[tuple[Caption, ...]]:
        prompted = bool(generation.prompt)
        return [
            tuple(tidied(each, rules, prompted=prompted) for each in of_image)
            for of_image in caption(pixels, generation, vocabulary)
        ]

    return captions
