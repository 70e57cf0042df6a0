"""The synonyms of a deployment: the line `automobile = car` replaces "automobile" in each tag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.notation.linefiles import LineFile

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Synonyms:
    """Sequences of lemmas, each with its replacement.

    `longest` is the number of words in the longest sequence.
    """

    replacements: Mapping[Words, Words] = field(default_factory=dict)
    longest: int = 0

    def apply(self, words: Sequence[str]) -> Words:
        """Return `words` with every known sequence replaced. The longest match at a word wins."""
        if not self.replacements:
            return tuple(words)
        replaced: list[str] = []
        start = 0
        while start < len(words):
            count, replacement = self._match(words, start)
            replaced += replacement
            start += count
        return tuple(replaced)

    def _match(self, words: Sequence[str], start: int) -> tuple[int, Words]:
        """Return how many words to replace at `start`, and their replacement.

        If no sequence matches there, one word is replaced by itself.
        """
        for count in range(min(self.longest, len(words) - start), 0, -1):
            replacement = self.replacements.get(tuple(words[start : start + count]))
            if replacement:
                return count, replacement
        return 1, (words[start],)


def read_synonyms(path: Path) -> Synonyms:
    """Read a file of synonyms, with one `word or words = replacement` on each line.

    The rest of a line after `#` is a comment.

    Raises:
        SettingsError: The file cannot be read, or a line is wrong. The message names the line.
    """
    file = LineFile(path, "tags.synonyms")
    replacements: dict[Words, Words] = {}
    for number, line in file.commented_lines():
        words, equals, replacement = (part.strip() for part in line.casefold().partition("="))
        sequence = tuple(words.split())
        if not (equals and sequence and replacement):
            raise file.wrong_line(number, f"{line!r} is not of the form: automobile = car")
        if sequence in replacements:
            raise file.wrong_line(number, f"{words!r} is already on an earlier line")
        replacements[sequence] = tuple(replacement.split())
    for sequence, words_instead in replacements.items():
        if words_instead in replacements:
            raise file.wrong(
                f"{' '.join(sequence)!r} becomes {' '.join(words_instead)!r}, "
                "which another line replaces; replace both by the final word"
            )
    return Synonyms(replacements, max(map(len, replacements), default=0))
