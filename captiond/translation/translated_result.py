"""What follows from the language of a caption: the texts of its tags, and its alternative text."""

from dataclasses import replace

from captiond.jobs import Captioned
from captiond.translation.dictionary import HEDGE, TagDictionary
from captiond.wording.alt_text import alt_text, translated_alt_text

NO_HEDGE = f"alt_text: it does not say that it may be wrong, as the dictionary has no {HEDGE!r}"


def in_its_language(result: Captioned, dictionary: TagDictionary, hedge_below: float) -> Captioned:
    """Return a result with its alternative text, and with its tags in the language of its caption.

    A tag that the dictionary does not know stays in English. It has no `english`.
    """
    confidence, language = result.confidence, result.caption_language
    if language is None:
        return replace(result, alt_text=alt_text(result.caption, confidence, hedge_below))
    details = dictionary.translated(result.tag_details)
    text = result.described or result.caption
    notes = result.notes
    if dictionary.hedge is None and confidence is not None and confidence < hedge_below:
        notes = (*notes, NO_HEDGE)
    return replace(
        result,
        tag_details=details,
        tags=tuple(sorted(tag.tag for tag in details)),
        alt_text=translated_alt_text(text, confidence, hedge_below, dictionary.hedge, language),
        notes=notes,
    )
