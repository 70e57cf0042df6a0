"""`captiond tags`: extract the tags of captions, without a model and a service."""

import json
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from captiond.cli.imports import only_what_tags_need
from captiond.errors import CaptiondError
from captiond.logs import set_up_logs
from captiond.processes.collector import without_gc
from captiond.settings.config import Settings

BATCH = 64  # captions
STANDARD_INPUT = Path("-")


class UnreadableCaptions(CaptiondError):
    """The file of captions cannot be read."""

    code = "unreadable_captions"


def exit_on_signals() -> None:
    """Let Ctrl-C and a closed output end the process at once, as they end `cat`."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def print_tags(captions: list[str], file: Path | None, settings: Settings) -> None:
    """Print one JSON line for each caption, in their order.

    Without `captions`, the lines of `file` are the captions; without a file, those of standard
    input.

    Raises:
        UnreadableCaptions, ModelMissing, ModelBroken, SettingsError
    """
    exit_on_signals()
    set_up_logs(settings.logs, process="tags")
    with without_gc(), only_what_tags_need(settings):
        from captiond.tagging.output import tagged
        from captiond.tagging.tagger import Taggers

    taggers, wanted = Taggers.load(settings.tags), settings.tags.filter
    for batch in batches(map(printable, captions or lines(file or STANDARD_INPUT)), batch_size()):
        for caption, tags in zip(batch, taggers.tag(batch, [None] * len(batch)), strict=True):
            line = json.dumps(tagged(caption, tags, wanted), ensure_ascii=False)
            sys.stdout.buffer.write(line.encode() + b"\n")
        sys.stdout.buffer.flush()


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, or of standard input for `-`. Bytes that are not UTF-8 become �.

    Raises:
        UnreadableCaptions: the file cannot be read.
    """
    source: Path | int = 0 if path == STANDARD_INPUT else path
    try:
        with open(source, encoding="utf-8-sig", errors="replace", closefd=source != 0) as file:
            for line in file:
                yield line.rstrip("\n")
    except OSError as error:
        raise UnreadableCaptions(f"{path}: cannot be read: {error.strerror}") from error


def batches(captions: Iterable[str], size: int) -> Iterator[list[str]]:
    waiting = iter(captions)
    while batch := list(islice(waiting, size)):
        yield batch


def batch_size() -> int:
    """Return the captions in a batch: one if a person types them, who waits for each answer."""
    return 1 if sys.stdin.isatty() else BATCH


def printable(caption: str) -> str:
    """Return the caption in valid Unicode. Python puts surrogates for bytes that are not UTF-8."""
    return caption.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
