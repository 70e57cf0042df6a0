"""Write files as a whole: a reader sees the old content or the new one, also after a power cut."""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from captiond.photofiles.metadata_errors import NotWritten
from captiond.spool import sync_folder

TEMPORARY = ".captiond-"  # hidden, so that no program takes the file for an image
LEFT_BEHIND = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{16}}")
LEFTOVER_SECONDS = 3600.0  # a younger file may be one that another process is writing
XATTR_NAMESPACE = "user."  # others belong to the system
ACL = "system.posix_acl_access"  # but this one is the users'


def write_whole(path: Path, content: bytes, old: os.stat_result | None = None) -> None:
    """Write a file. One that is there keeps its owner and its mode.

    `old` is the state that the former content was read in, if the new one depends on it.

    Raises:
        NotWritten: it cannot be written, or has changed meanwhile. It is as it was.
    """
    try:
        path = real_path(path)
        old = old or (path.stat() if path.exists() else None)
        replace(path, content, old, keep_times=False)
    except OSError as error:
        raise not_written(path, error) from error


def rewrite_image(path: Path, content: bytes, old: os.stat_result) -> None:
    """Replace the content of an image. Its owner, its mode and its times stay.

    `old` is the state that the former content was read in.

    Raises:
        NotWritten: it cannot be replaced, or has changed meanwhile. It is as it was.
    """
    try:
        replace(real_path(path), content, old, keep_times=True)
    except OSError as error:
        raise not_written(path, error) from error


def replace(path: Path, content: bytes, old: os.stat_result | None, *, keep_times: bool) -> None:
    """Write to a temporary file in the same folder, which then takes the name."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # Until the file has the mode of the old one, only its owner may read it.
        mode = 0o666 if old is None else 0o600
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            if old is not None:
                take_attributes(file.fileno(), path, old)
            if old is not None and keep_times:
                os.utime(file.fileno(), ns=(old.st_atime_ns, old.st_mtime_ns))
            os.fsync(file.fileno())
        if old is not None:
            check_unchanged(path, old)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync_folder(path.parent)


def remove_leftovers(folder: Path, now: float) -> None:
    """Remove temporary files that a process has left behind which was killed while it wrote."""
    with suppress(OSError):
        for path in folder.iterdir():
            if LEFT_BEHIND.fullmatch(path.name):
                status = path.lstat()
                # The time of modification may be that of the image.
                if stat.S_ISREG(status.st_mode) and now - status.st_ctime > LEFTOVER_SECONDS:
                    path.unlink()


def take_attributes(descriptor: int, path: Path, old: os.stat_result) -> None:
    """Give a new file the owner, the attributes, the ACL and the mode of the one it replaces.

    Raises:
        OSError: it cannot have one of them.
    """
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    names = extended_attributes(path)
    for name in names:
        if name.startswith(XATTR_NAMESPACE) or name == ACL:
            os.setxattr(descriptor, name, os.getxattr(path, name))
    if ACL not in names and ACL in extended_attributes(descriptor):  # by the default of the folder
        os.removexattr(descriptor, ACL)
    os.fchmod(descriptor, old.st_mode & 0o7777)


def extended_attributes(file: Path | int) -> list[str]:
    """Return the names of the extended attributes; none if the file system has none."""
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def check_unchanged(path: Path, old: os.stat_result) -> None:
    """Return if nobody has written to a file since it was read. Raises NotWritten."""
    now = path.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (old.st_ino, old.st_size, old.st_mtime_ns):
        raise NotWritten(f"{path}: another program has changed it meanwhile; try again")


def not_written(path: Path, error: OSError) -> NotWritten:
    return NotWritten(f"{path}: cannot be written: {error.strerror or error}")


def real_path(path: Path) -> Path:
    """Return where links lead. Of links that lead back to themselves, return the last one.

    `Path.resolve` raises a RuntimeError for these in Python 3.11 and 3.12.
    """
    return Path(os.path.realpath(path))


def is_file(path: Path) -> bool:
    """Return whether a path is that of a file.

    `Path.is_file` raises an OSError for a name that is too long for the file system, as that of a
    file beside an image may be.
    """
    return os.path.isfile(path)  # noqa: PTH113


def may_write_to(folder: Path) -> bool:
    """Return whether this process may create files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
