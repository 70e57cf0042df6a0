"""The bytes of one image, from a model process to an image decoder that cannot read them itself.

A decoder reads files of the spool's folder, and has no network. An image from object storage is put
into memory that both processes share: an anonymous file, which has no name and is freed with the
last process that has it open. Each decoder has its own, so it sees no image but those it decodes.
"""

import os
from multiprocessing.reduction import DupFd
from typing import TYPE_CHECKING, Any

from captiond.errors import SpoolError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Handover:
    """The shared memory of a decoder. It holds one image at a time."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = (
            os.memfd_create("captiond-image", os.MFD_CLOEXEC) if descriptor is None else descriptor
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return attach, (DupFd(self._descriptor),)

    def put(self, content: "Buffer") -> None:
        """Replace what is there. It is written, not mapped: the other process cannot disturb it.

        Raises:
            OSError: there is no memory for it.
        """
        self.clear()
        left, written = memoryview(content).cast("B"), 0
        while left:
            count = os.pwrite(self._descriptor, left, written)
            left, written = left[count:], written + count

    def read(self, size: int) -> bytes:
        """Return the image, of `size` bytes. Raises SpoolError if there are fewer."""
        content = os.pread(self._descriptor, size, 0)
        if len(content) < size:
            raise SpoolError("the image did not reach its decoder whole")
        return content

    def clear(self) -> None:
        """Free the memory."""
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        os.close(self._descriptor)


def attach(descriptor: Any) -> Handover:
    return Handover(descriptor.detach())
