"""Faster imports for commands that need only a part of a library."""

from contextlib import AbstractContextManager, nullcontext

from captiond.left_out import left_out
from captiond.settings.config import Settings
from captiond.tagging.embedded import EMBEDDED


def only_what_tags_need(settings: Settings) -> AbstractContextManager[None]:
    """Let spaCy be imported without torch in a block, if the tag pipelines allow that.

    spaCy imports torch if it is installed, for components that are made with it. The embedded
    pipeline has none. The import of torch takes longer than everything else in `captiond tags`.
    """
    needs_no_torch = EMBEDDED.keys() >= set(settings.tags.pipelines.values())
    return left_out("torch") if needs_no_torch else nullcontext()
