"""Faster imports for commands that need only a part of a library."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from captiond.config import Settings
from captiond.tagging.embedded import EMBEDDED


@contextmanager
def only_what_tags_need(settings: Settings) -> Iterator[None]:
    """Let spaCy be imported without torch while the block runs, if the tag pipelines allow that.

    spaCy imports torch if it is installed, for components that are made with it. The embedded
    pipeline has none. The import of torch takes longer than everything else in `captiond tags`.
    """
    hide = "torch" not in sys.modules and EMBEDDED.keys() >= set(settings.tags.pipelines.values())
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import raises ImportError
    try:
        yield
    finally:
        if hide:
            del sys.modules["torch"]
