"""A deployment's own synonyms: `automobile = car` makes every automobile a car."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.errors import SettingsError

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Synonyms:
    """Runs of lemmas and what takes their place."""

    replacements: Mapping[Words, Words] = field(default_factory=dict)
    longest: int = 0  # words in a run

    def apply(self, words: Sequence[str]) -> Words:
        """`words` with every run that has a replacement replaced, the longest run first."""
        if not self.replacements:
            return tuple(words)
        replaced: list[str] = []
        start = 0
        while start < len(words):
            count, words_here = self._at(words, start)
            replaced += words_here
            start += count
        return tuple(replaced)

    def _at(self, words: Sequence[str], start: int) -> tuple[int, Words]:
        """How many words are replaced at `start`, and by which; one by itself if none is."""
        for count in range(min(self.longest, len(words) - start), 0, -1):
            found = self.replacements.get(tuple(words[start : start + count]))
            if found:
                return count, found
        return 1, (words[start],)


def read_synonyms(path: Path) -> Synonyms:
    """The synonyms in a file: one `word or words = what to say instead` a line, `#` for comments.

    Raises:
        SettingsError: it cannot be read, or a line is wrong; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"tags.synonyms = {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"tags.synonyms = {path}: is not UTF-8 text") from error
    replacements: dict[Words, Words] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].casefold()
        if not text.strip():
            continue
        words, equals, instead = (part.strip() for part in text.partition("="))
        run = tuple(words.split())
        if not (equals and run and instead):
            raise wrong(path, number, f"{line.strip()!r} is not of the form: automobile = car")
        if run in replacements:
            raise wrong(path, number, f"{words!r} stands in an earlier line already")
        replacements[run] = tuple(instead.split())
    for run, found in replacements.items():
        if found in replacements:
            raise SettingsError(
                f"tags.synonyms = {path}: {' '.join(run)!r} becomes {' '.join(found)!r}, which is "
                "replaced in turn; give both the last word"
            )
    return Synonyms(replacements, max(map(len, replacements), default=0))


def wrong(path: Path, number: int, problem: str) -> SettingsError:
    return SettingsError(f"tags.synonyms = {path}: line {number}: {problem}")
