"""The rules for the texts of captions. Each can be switched off by a setting of `[captions]`."""

from dataclasses import dataclass, replace

from captiond.confidence import of_caption
from captiond.jobs import Caption
from captiond.wording.alt_text import capitalized
from captiond.wording.cutting import end_of_last_word, end_of_phrases, end_of_sentence
from captiond.wording.draft import Draft
from captiond.wording.looping import first_repeat
from captiond.wording.openings import opening_length
from captiond.wording.spacing import needless_spaces

# This number is part of the key of a cached caption. Raise it with each change of a rule in this
# package, so that captions in the cache are made anew.
WORDING_VERSION = 1
ENDS = (".", "!", "?", '."', '!"', '?"')


@dataclass(frozen=True, slots=True)
class TextRules:
    """Which rules apply to the text of a caption. The names are those of the settings."""

    end_loops: bool = False
    complete_phrases: bool = False
    repair_spacing: bool = False
    drop_openings: bool = False
    sentences: bool = False


def tidied(caption: Caption, rules: TextRules, *, prompted: bool = False) -> Caption:
    """Return a caption as the rules want it, with its own text as `raw` if that is different.

    The caption begins with a prompt if it is `prompted`. The words of a prompt stay.
    """
    draft = Draft(caption.text)
    begin = caption.tokens[0].start if prompted and caption.tokens else 0
    looped = rules.end_loops and without_loops(draft, begin)
    if rules.complete_phrases:
        complete_phrases(draft, begin, cut=not (caption.ended or looped))
        if looped or not caption.ended:
            close_quotation(draft, begin)
    if rules.repair_spacing:
        repair_spacing(draft)
    if rules.drop_openings and not prompted:
        drop_opening(draft)
    if rules.sentences:
        make_sentence(draft)
    if draft.text == caption.text:
        return caption
    return changed(caption, draft)


def changed(caption: Caption, draft: Draft) -> Caption:
    """Return the caption with the text of a draft. Its confidence is that of the words it keeps."""
    tokens = draft.moved(caption.tokens)
    confidence = caption.confidence
    if len(tokens) < len(caption.tokens):
        confidence = of_caption(tokens)
    return replace(caption, text=draft.text, raw=caption.text, tokens=tokens, confidence=confidence)


def without_loops(draft: Draft, begin: int) -> bool:
    """Remove what a text repeats. Return whether it was cut there, as nothing else followed."""
    while repeat := first_repeat(draft.text, begin):
        if not (draft.text[begin : repeat.start] + draft.text[repeat.end :]).strip():
            return False  # nothing would be left
        draft.replace(repeat.start, repeat.end)
        if repeat.runs_out:
            cut_unless_blank(draft, begin, end_of_last_word(draft.text, begin))
            return True
    return False


def complete_phrases(draft: Draft, begin: int, *, cut: bool) -> None:
    """End a text after a complete phrase."""
    end = end_of_phrases(draft.text, begin) if cut else end_of_sentence(draft.text, begin)
    cut_unless_blank(draft, begin, end)


def cut_unless_blank(draft: Draft, begin: int, end: int) -> None:
    """Cut a text, unless nothing would be left of what the model has written."""
    if draft.text[begin:end].strip():
        draft.cut(end)


def close_quotation(draft: Draft, begin: int) -> None:
    """Close a quotation that was cut, or remove the mark that opened it if nothing else is left."""
    if draft.text.count('"', begin) % 2 == 0:
        return
    if draft.text.endswith('"'):
        cut_unless_blank(draft, begin, len(draft.text) - 1)
    else:
        draft.replace(len(draft.text), len(draft.text), ' "')


def repair_spacing(draft: Draft) -> None:
    while spaces := needless_spaces(draft.text):
        for at in sorted(set(spaces), reverse=True):
            draft.replace(at, at + 1)


def drop_opening(draft: Draft) -> None:
    draft.replace(0, opening_length(draft.text))


def make_sentence(draft: Draft) -> None:
    """Begin a text with a capital, and end it with a full stop."""
    draft.replace(0, len(draft.text), capitalized(draft.text))
    if draft.text and not draft.text.endswith(ENDS):
        draft.replace(len(draft.text), len(draft.text), ".")
