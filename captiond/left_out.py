"""Imports of libraries without their parts that captiond does not use.

An import is most of the time of a short command, and a large part of the memory of a small process.
Some libraries import what only few of their users need.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def left_out(*names: str, stubs: tuple[str, ...] = ()) -> Iterator[None]:
    """Let libraries be imported without some modules while the block runs.

    An import of one of `names` raises ImportError. One of `stubs` is a module in which every name
    is None. Modules that are imported already stay, and all of them can be imported afterwards.
    """
    replaced: dict[str, ModuleType | None] = dict.fromkeys(names)
    replaced |= {name: Stub(name) for name in stubs}
    replaced = {name: module for name, module in replaced.items() if name not in sys.modules}
    sys.modules.update(replaced)  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        for name in replaced:
            sys.modules.pop(name, None)


class Stub(ModuleType):
    """A module in which every name is None. It is a package as well, without modules."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, _: str) -> None:
        return None
