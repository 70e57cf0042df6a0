"""The garbage collector during imports."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """Switch the garbage collector off while the block imports, and exempt what was imported.

    The collector would traverse all objects again and again while torch and transformers are
    imported. Measured, that is a fifth of the import time. Imported objects live as long as the
    process, so later collections need not traverse them either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def spare_last_collections() -> None:
    """Exempt all objects from garbage collection, since the process ends.

    Python would traverse all of them several times as it ends: a tenth of a second for a command.
    """
    gc.freeze()
