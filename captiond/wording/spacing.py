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
QUOTE = re.compile(r"(?:(?<=\s)|^)[\"'](?=\s|$)")


def needless_spaces(text: str) -> list[int]:
    """Return the positions of spaces to remove. More may be needless once these are removed."""
    for pattern in PATTERNS:
        if found := list(pattern.finditer(text)):
            spans = (match.span(group) for match in found for group in range(1, pattern.groups + 1))
            return [at for start, end in spans for at in range(start, end)]
    return within_quotes(text)


def within_quotes(text: str) -> list[int]:
    """Return the positions of the spaces within pairs of quotation marks.

    A single mark behind an "s" is a genitive: "the boys ' room".
    """
    marks = [match.start() for match in QUOTE.finditer(text)]
    for mark in ("'", '"'):
        same = [at for at in marks if text[at] == mark]
        if len(same) == 1 and mark == "'" and text[: same[0]].endswith("s "):
            return [same[0] - 1]
        for opening, closing in zip(same[::2], same[1::2], strict=False):
            if closing - opening >= len("' x "):
                return [opening + 1, closing - 1]
    return []
