"""A temporary folder, which the next process removes if its own process is killed."""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captiond.errors import StorageFailed
from captiond.jobs import SpooledImage

PREFIX, LOCK = "captiond-images-", "lock"


class InterimFiles:
    """Images in files of a folder, where image decoders can read them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def file(self) -> Iterator[str]:
        """Yield the name of a new file, which no decoder can guess. It is removed after the block.

        A thread that writes to it must have ended before the block does.
        """
        name = f"image-{secrets.token_hex(16)}"
        try:
            yield name
        finally:
            (self._folder / name).unlink(missing_ok=True)

    def store(self, name: str, content: bytes) -> SpooledImage:
        """Write an image to a file. Blocking.

        Raises:
            StorageFailed: the file cannot be written. Nothing of it is left.
        """
        path = self._folder / name
        try:
            path.write_bytes(content)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageFailed(
                f"{self._folder.parent}: cannot be written to: {error.strerror}; TMPDIR can name "
                "another folder for temporary files"
            ) from error
        return SpooledImage(name, 0, len(content), hashlib.sha256(content).hexdigest())


@contextmanager
def interim_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder, and remove it after the block. Remove those of dead processes before.

    A living process holds a lock in its folder, which the kernel takes away when it ends.
    """
    remove_leftover_folders(parent)
    folder, lock = locked_folder(parent)
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder, and the descriptor of its lock.

    A process that starts at the same moment may find the lock file before it is locked, and remove
    the folder. Then another folder is made.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            folder.rmdir()
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)


def remove_leftover_folders(parent: Path) -> None:
    """Remove the folders of this user whose processes are dead.

    A folder without its lock was made a moment ago.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
