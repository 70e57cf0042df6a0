"""What a translator is: English texts in, texts of another language out.

Everything else in captiond knows translators by this protocol only, so another runtime needs a
class that follows it, and its call in `translators`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text as a model has translated it. One that has not `ended` was cut at its longest length.

    A text that is too long for the model has no translation: `text` is empty then.
    """

    text: str
    ended: bool = True


TOO_LONG = Sentence("", ended=False)


class Translator(Protocol):
    """A model that is loaded on a device. It is used by one thread at a time."""

    def translate(self, texts: Sequence[str]) -> list[Sentence]:
        """Return the translation of each text. It does not depend on the other texts.

        Raises:
            torch.OutOfMemoryError: the device has too little memory for so many texts.
        """
