"""Translations that say nothing: blank ones, loops, and those that do not end. Pure."""

from captiond.translation.translator import Sentence
from captiond.wording.looping import first_repeat

LONGEST_SHARE, LONGEST_MORE = 3, 40  # characters of a translation, by those of its text


def is_degenerate(text: str, sentence: Sentence) -> bool:
    """Return whether a translation is worse than the English text.

    What the text repeats, its translation may repeat as well.
    """
    if not sentence.ended or not any(map(str.isalnum, sentence.text)):
        return True
    if len(sentence.text) > LONGEST_SHARE * len(text) + LONGEST_MORE:
        return True
    return first_repeat(sentence.text, 0) is not None and first_repeat(text, 0) is None
