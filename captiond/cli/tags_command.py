"""`captiond tags`: the tags of captions that are there already, without a model and a server."""

import json
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from captiond.config import Settings
from captiond.errors import CaptiondError
from captiond.logs import set_up_logs

BATCH = 64  # captions; one at a time for whoever types them
STANDARD_INPUT = Path("-")


class UnreadableCaptions(CaptiondError):
    """The file of captions cannot be read."""

    code = "unreadable_captions"


def end_as_filters_do() -> None:
    """Die of Ctrl-C and of a reader that has left, as `cat` does: there is nothing to put right."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def print_tags(captions: list[str], file: Path | None, settings: Settings) -> None:
    """One JSON line for each caption, in order: from the arguments, else the lines of a file.

    Raises:
        UnreadableCaptions, ModelMissing, ModelBroken, SettingsError
    """
    end_as_filters_do()
    set_up_logs(settings.logs, process="tags")
    from captiond.tagging.output import tagged
    from captiond.tagging.tagger import Taggers

    taggers, wanted = Taggers.load(settings.tags), settings.tags.filter
    for batch in batches(map(printable, captions or lines(file or STANDARD_INPUT)), batch_size()):
        for caption, found in zip(batch, taggers.tag(batch, [None] * len(batch)), strict=True):
            line = json.dumps(tagged(caption, found, wanted), ensure_ascii=False)
            sys.stdout.buffer.write(line.encode() + b"\n")
        sys.stdout.buffer.flush()


def lines(path: Path) -> Iterator[str]:
    """The lines of a file, or of standard input for `-`; bytes that are not UTF-8 are replaced."""
    source: Path | int = 0 if path == STANDARD_INPUT else path
    try:
        with open(source, encoding="utf-8", errors="replace", closefd=source != 0) as file:
            for line in file:
                yield line.rstrip("\n")
    except OSError as error:
        raise UnreadableCaptions(f"{path}: cannot be read: {error.strerror}") from error


def batches(captions: Iterable[str], size: int) -> Iterator[list[str]]:
    waiting = iter(captions)
    while batch := list(islice(waiting, size)):
        yield batch


def batch_size() -> int:
    return 1 if sys.stdin.isatty() else BATCH


def printable(caption: str) -> str:
    """The caption without the half characters that an argument of other bytes comes with."""
    return caption.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
