"""The data folder: it exists, this user can use it, and no other user can.

Whoever can read it can read all images and results, and whoever can open the lock file can keep the
service from starting. So the process creates files with mode 0600 and folders with 0700 whatever
its umask was, and `make_private` corrects what an earlier version or another program left open.
"""

import os
import pwd
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from captiond.errors import StartupError
from captiond.settings.config import Settings

log = structlog.get_logger()
HOME_BYTES = 6  # random ones, in the name of a data folder
HOME = re.compile(f"[0-9a-f]{{{2 * HOME_BYTES}}}")
OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO  # the rights of the group and of all other users
SHOWN = 5  # paths in a log line


def create_privately() -> None:
    """Let no file that this process or a child creates be open to other users."""
    # guard: private-files
    os.umask(OF_OTHERS)


def make_folders(*folders: Path) -> None:
    """Create the folders that the service writes to.

    Raises:
        StartupError: one of them cannot be created or written to.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StartupError(no_folder(folder)) from error
        except OSError as error:
            raise StartupError(
                f"{folder}: cannot be made: {error.strerror}; choose another with --data-dir"
            ) from error
        if is_read_only(folder):
            raise StartupError(
                f"{folder}: its file system is read-only; mount it writable, or choose another "
                "folder with --data-dir"
            )
        check_rights(folder, os.R_OK | os.W_OK | os.X_OK)


def no_folder(path: Path) -> str:
    """Return what to do about something else where a folder has to be."""
    return f"{path}: this is not a folder, or a link to none; move it away"


def make_model_folder(folder: Path) -> None:
    """Create the folder of downloaded models. Models that others have put there need no writing.

    Raises:
        StartupError: the folder cannot be created or read.
    """
    if os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises if a parent is not accessible
        check_rights(folder, os.R_OK | os.X_OK)
    else:
        make_folders(folder)


def provide_temporary_folder(data: Path) -> Path | None:
    """Let libraries write temporary files to `tmp` in the data folder if they can nowhere else.

    Return this folder, or None if there is a usual one. A container with a read-only root and
    without /tmp has none, and torch cannot even be imported there. Child processes inherit the
    folder.

    Raises:
        StartupError: there is no folder for temporary files.
    """
    try:
        tempfile.gettempdir()
        return None
    except FileNotFoundError:
        folder = data / "tmp"
    try:
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"{folder}: cannot be made: {error.strerror}, and no other folder for temporary files "
            "can be written; name one in the variable TMPDIR"
        ) from error
    os.environ["TMPDIR"] = str(folder.absolute())
    return folder


def is_read_only(path: Path) -> bool:
    """Return whether the file system of `path` is mounted read-only."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def check_rights(path: Path, mode: int) -> None:
    """Check that this user has the rights of access(2) `mode`.

    Raises:
        StartupError: it has not; the message says what to do.
    """
    if os.access(path, mode):
        return
    user, owner = os.geteuid(), path.lstat().st_uid
    verb = "write to" if mode & os.W_OK else "read"
    if user == owner:
        rights = "rwx" if path.is_dir() else "rw"
        raise StartupError(
            f"{path}: its mode does not let its owner {user_name(user)} {verb} it; run chmod "
            f"u+{rights} {path}"
        )
    raise StartupError(
        f"{path}: user {user_name(user)} cannot {verb} it, it belongs to {user_name(owner)}; "
        "change its owner, or run captiond as that user"
    )


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def make_private(settings: Settings) -> None:
    """Take the rights of other users to the data folder, and log that once if there were any.

    Only the owner of a file can change its rights. In some containers another user owns the folder,
    so a folder that cannot be changed is a warning.
    """
    folder, changed = settings.data.dir, list[str]()
    # The folder comes first: nobody can exchange its files afterwards.
    for path, status in entries(folder, settings.spool):
        if not status.st_mode & OF_OTHERS:
            continue
        if change_mode(path, private_mode(status.st_mode)):
            changed.append(str(path))
        elif path == folder:
            log.warning(
                "data_folder_open_to_other_users",
                path=str(folder),
                reason=f"it belongs to {user_name(status.st_uid)}, who can run chmod go-rwx",
            )
    if changed:
        log.info("data_folder_made_private", entries=len(changed), first=changed[:SHOWN])


def private_mode(mode: int) -> int:
    """Return the mode of a file or folder without the rights of other users."""
    kept = ~OF_OTHERS if stat.S_ISDIR(mode) else stat.S_IRUSR | stat.S_IWUSR
    return stat.S_IMODE(mode) & kept


def check_files(settings: Settings) -> None:
    """Check that this user can use the database and the spool files.

    Raises:
        StartupError: it cannot, because another user owns one of them.
    """
    database = settings.database_address.file
    parts = files_of(database) if database is not None else ()
    for path in (*parts, *(path for path, _ in files_in(settings.spool))):
        if path.exists():
            check_rights(path, os.R_OK | os.W_OK)


def home_of(folder: Path) -> str:
    """Return the name that this data folder has in the database. The first call makes it up.

    Raises:
        StartupError: its file cannot be read or written.
    """
    file = folder / "home"
    try:
        name = file.read_text("ascii", errors="replace").strip() if file.exists() else ""
        if HOME.fullmatch(name) is None:  # new, or cut short by a power failure
            name = secrets.token_hex(HOME_BYTES)
            file.write_text(f"{name}\n", "ascii")
    except OSError as error:
        raise StartupError(f"{file}: cannot be used: {error.strerror}") from error
    return name


def files_of(database: Path) -> Iterator[Path]:
    """Yield the files that a database of SQLite may consist of."""
    for suffix in ("", "-wal", "-shm"):
        yield database.with_name(f"{database.name}{suffix}")


def entries(data: Path, spool: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the folders, and the files in them, with their status. Symbolic links are left out."""
    for folder in (data, spool):
        yield folder, folder.stat()
        yield from ((path, status) for path, status in files_in(folder))


def files_in(folder: Path) -> Iterable[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def change_mode(path: Path, mode: int) -> bool:
    """Change the rights to a file, and return whether this user may do that."""
    try:
        path.chmod(mode)
    except OSError:
        return False
    return True
