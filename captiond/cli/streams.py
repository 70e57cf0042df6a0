"""Where a command writes: the standard streams, of which some may be closed, or a file.

An output that cannot be written ends the command with one line that says why.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WIDTHS = ("COLUMNS", "TERMINAL_WIDTH")  # of rich, and of typer for the help
STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by their descriptors: 0, 1, 2


class OutputFailed(Exception):
    """What a command prints cannot be written, for example because the disk is full."""


class CheckedOutput(io.FileIO):
    """Standard output, whose errors can be told from those of other files.

    A closed pipe stays a BrokenPipeError, which ends a command without a message.
    """

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write the bytes, or some of them.

        Raises:
            OutputFailed, BrokenPipeError
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            self._discard_the_rest()
            raise
        except OSError as error:
            self._discard_the_rest()
            raise OutputFailed(f"standard output: {error.strerror}") from error

    def _discard_the_rest(self) -> None:
        """Send what is buffered to /dev/null, so that Python has nothing to say when it exits."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


@contextmanager
def writing_to(file: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `file`, into OutputFailed with the file's name."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"{error.filename or file}: {error.strerror}") from error


def set_up_streams() -> None:
    """Open the closed streams, and check what is written to standard output.

    Characters that its encoding does not have are escaped, as on standard error. Names of files may
    have bytes of any encoding. A width in the environment that is 0 or no number is not known.
    """
    open_closed_streams()
    for name in WIDTHS:
        width = os.environ.get(name, "")
        if not (width.isdecimal() and width.strip("0")):
            os.environ.pop(name, None)
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(CheckedOutput(before.fileno(), "w", closefd=False)),
            encoding=before.encoding,
            errors="backslashreplace" if before.errors == "strict" else before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )


def open_closed_streams() -> None:
    """Open /dev/null in place of each standard stream that is closed.

    Otherwise the next file that this process opens gets the descriptor of the stream, and a child
    process writes its messages into that file.
    """
    for descriptor, (name, mode) in enumerate(STREAMS):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
