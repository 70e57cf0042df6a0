"""Spaces that a model puts within words and around marks: "t - shirt", "person ' s", "10 : 30".

Word-piece tokenizers split text at every mark, and do not remember where the spaces were.
"""

import re

# The groups are the spaces to remove. A later pattern sees what the earlier ones leave.
PATTERNS = tuple(
    map(
        re.compile,
        (
            r"(?<= )( +)|^( +)|( +)$",
            r"(?<!\S)(?:1( )[89]|2( )0)( )\d( )\d(?!\S)",  # a year, digit by digit
            r"(?<=\w)( )-( )(?=\w)",
            r"(?<=\w)( )'( )(?=(?:s|t|d|m|re|ve|ll)\b)",
            r"(?<=\b[oOdD])( )'( )(?=\w{2})",  # o'clock, d'or
            r"(?<=\d)( )?:( )(?=\d\d\b)",
            r"(?<=\d)( )?\.( )(?=\d)",
            r"(?<=\d)( )?,( )(?=\d{3}\b)",
            r"(?<=\w)( )/( )(?=\w)",
            r"(?<=[$£€#(\[])( )(?=\w)",
            r"( )(?=[,.;:!?%)\]](?:\s|$))",
        ),
    )
)
# Verbs and nouns in -s behind which a quotation begins.
BEFORE_QUOTES = frozenset(("says", "reads", "spells", "words", "letters", "is", "as", "this"))
QUOTE = re.compile(r"(?:(?<=\s)|^)[\"'](?=\s|$)")


def needless_spaces(text: str) -> list[int]:
    """Return the positions of spaces to remove. More may be needless once these are removed."""
    for pattern in PATTERNS:
        if found := list(pattern.finditer(text)):
            spans = (match.span(group) for match in found for group in range(1, pattern.groups + 1))
            return [at for start, end in spans for at in range(start, end)]
    return within_quotes(text)


def within_quotes(text: str) -> list[int]:
    """Return the positions of the spaces within pairs of quotation marks, or before a genitive."""
    marks = [match.start() for match in QUOTE.finditer(text)]
    for mark in ("'", '"'):
        same = [at for at in marks if text[at] == mark]
        if mark == "'" and (genitive := first_genitive(text, same)):
            return [genitive - 1]
        for opening, closing in zip(same[::2], same[1::2], strict=False):
            if closing - opening >= len("' x "):
                return [opening + 1, closing - 1]
    return []


def first_genitive(text: str, marks: list[int]) -> int | None:
    """Return the first of some single marks that is a genitive: "the boys ' room".

    It stands behind an "s", and is one too many for pairs. If all marks do, it is one as well.
    """
    behind_s = [
        at
        for at in marks
        if text[:at].endswith("s ") and text[:at].split()[-1] not in BEFORE_QUOTES
    ]
    is_genitive = len(marks) % 2 == 1 or len(behind_s) == len(marks)
    return behind_s[0] if behind_s and is_genitive else None
