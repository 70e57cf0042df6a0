"""A caption that is being changed, which knows where each of its characters comes from."""

from dataclasses import replace

from captiond.confidence import Token

NEW = -1  # the origin of a character that the model has not written


class Draft:
    """A text, and for each of its characters the position in the text of the model."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._origins = list(range(len(text)))

    def replace(self, start: int, end: int, new: str = "") -> None:
        """Replace some characters. New ones of the same number keep their origins."""
        origins = self._origins[start:end]
        if len(new) != end - start:
            origins = [NEW] * len(new)
        self.text = self.text[:start] + new + self.text[end:]
        self._origins[start:end] = origins

    def cut(self, end: int) -> None:
        """Remove everything from a position on, and the spaces in front of it."""
        self.replace(len(self.text[:end].rstrip()), len(self.text))

    def moved(self, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        """Return tokens of the model's text at their places here, without those that are gone.

        A token without characters ends the text. It stays if the end of the text does.
        """
        places = {origin: at for at, origin in enumerate(self._origins)}
        moved: list[Token] = []
        for token in tokens:
            at = [places[n] for n in range(token.start, token.end) if n in places]
            if at:
                moved.append(replace(token, start=at[0], end=at[-1] + 1))
            elif token.start == token.end and (token.start - 1 in places or not token.start):
                end = places.get(token.start - 1, -1) + 1
                moved.append(replace(token, start=end, end=end))
        return tuple(moved)
