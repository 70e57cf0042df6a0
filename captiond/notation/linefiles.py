"""Text files of an operator with one entry on each line: synonyms, vocabularies, dictionaries."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captiond.errors import SettingsError


@dataclass(frozen=True, slots=True)
class LineFile:
    """A text file. Messages begin with the `setting` that names it, if there is one."""

    path: Path
    setting: str = ""

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines with their numbers, from 1. Blank lines are left out.

        Raises:
            SettingsError: the file cannot be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise self.wrong(f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise self.wrong("is not UTF-8 text") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield number, line

    def commented_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines without what follows a `#`, and their numbers.

        Raises:
            SettingsError: the file cannot be read.
        """
        for number, line in self.lines():
            text = line.partition("#")[0].strip()
            if text:
                yield number, text

    def wrong(self, problem: str) -> SettingsError:
        """Return the error for a file with this problem."""
        name = f"{self.setting} = {self.path}" if self.setting else str(self.path)
        return SettingsError(f"{name}: {problem}")

    def wrong_line(self, number: int, problem: str) -> SettingsError:
        """Return the error for a line with this problem."""
        return self.wrong(f"line {number}: {problem}")
