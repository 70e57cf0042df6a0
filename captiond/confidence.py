"""How sure a model is of a caption and of its parts, as numbers in [0, 1]. Pure.

A search returns the log-probability of each token. The confidence of a caption is the geometric
mean of the probabilities of its tokens, with the token that ends it. That of a part, such as a tag,
is the product of the probabilities of the tokens that its characters come from: how likely the
model takes these words at this place, after the words before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

DIGITS = 4


@dataclass(frozen=True, slots=True)
class Token:
    """One token: the characters of the caption from `start` to before `end`, and how likely it is.

    The end token has no characters.
    """

    start: int
    end: int
    log_probability: float


def of_caption(tokens: Sequence[Token]) -> float:
    """Return the confidence of a caption, by the tokens that the model has chosen."""
    total = sum(token.log_probability for token in tokens)
    return rounded(total / max(1, len(tokens)))


def of_part(tokens: Sequence[Token], start: int, end: int) -> float:
    """Return the confidence of some characters. It is 1 if they all come from the prompt."""
    touched = (token for token in tokens if token.start < end and token.end > start)
    return rounded(sum(token.log_probability for token in touched))


def rounded(log_probability: float) -> float:
    return round(min(1.0, exp(log_probability)), DIGITS)


def tokens_of(
    text: str, pieces: Sequence[str], log_probabilities: Sequence[float], prompt: int
) -> tuple[Token, ...]:
    """Return the tokens of a caption that follow its first `prompt` ones.

    `pieces` are the texts of all tokens, "" for special ones. A decoder puts them together and
    changes white space only. A piece that is not found nevertheless has no characters.
    """
    tokens: list[Token] = []
    end, lost = 0, False
    for number, (piece, log_probability) in enumerate(zip(pieces, log_probabilities, strict=True)):
        start = text.find(piece, end) if piece else -1
        between = text[end : max(end, start)].strip()
        found = start >= 0 and (lost or not between)
        lost = not found and (lost or piece != "")
        if not found:
            start, piece = end, ""
        end = start + len(piece)
        if number >= prompt:
            tokens.append(Token(start, end, log_probability))
    return tuple(tokens)
