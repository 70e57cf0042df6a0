"""Alternative texts: what a screen reader says in place of an image (docs/alt-text.md)."""

import re

from captiond.wording.openings import without_opening

HEDGE = "Possibly"
FULL_STOPS = {"hi": "।", "ja": "。", "zh": "。"}  # other languages have a dot
# "approx. 5" and "dec. 2020" go on.
SENTENCE_END = re.compile(r"(\w*)[.!?]+(?=\s+\D|\s*$)")
MARK_IN_QUOTES = re.compile(r"[.!?]+(?=[\"')]+$)")
ABBREVIATIONS = frozenset({"mrs", "prof", "etc", "inc", "ltd"})
SHORT = 2  # letters: a shorter word before a full stop is an abbreviation, such as "st."


def alt_text(caption: str, confidence: float | None, hedge_below: float) -> str | None:
    """Return the alternative text of an image: one sentence without "an image of".

    If the confidence of the caption is below `hedge_below`, the sentence says that it may be wrong.
    A blank caption has no alternative text: an empty one would say that the image is decoration.
    """
    text = first_sentence(without_opening(" ".join(caption.split())))
    if not text:
        return None
    if confidence is not None and confidence < hedge_below:
        return f"{HEDGE} {text}."
    return f"{capitalized(text)}."


def translated_alt_text(
    text: str, confidence: float | None, hedge_below: float, hedge: str | None, language: str
) -> str | None:
    """Return the alternative text for a caption in another language, whose opening is gone.

    `hedge` is the word of this language for "possibly", or None if it is not known. The colon
    behind it leaves the case of the next word alone, which differs between languages.
    """
    stop = FULL_STOPS.get(language.partition("-")[0], ".")
    sentence = first_sentence(" ".join(text.split()).rstrip("。！？।"))
    if not sentence:
        return None
    if hedge and confidence is not None and confidence < hedge_below:
        return f"{capitalized(hedge)}: {sentence}{stop}"
    return f"{capitalized(sentence)}{stop}"


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, without the mark that ends it.

    A quotation may have several: a sign that says "hello! welcome".
    """
    for end in SENTENCE_END.finditer(text):
        word = end[1].lower()
        is_quoted = text.count('"', 0, end.start()) % 2 == 1
        if len(word) > SHORT and word not in ABBREVIATIONS and not is_quoted:
            return text[: end.end(1)].strip()
    return MARK_IN_QUOTES.sub("", text.rstrip(" .!?,;:-"))


def capitalized(text: str) -> str:
    """Return a text whose first letter is a capital, unless that takes two characters."""
    first = text[:1].upper()
    return first + text[1:] if len(first) == 1 else text
