"""The descriptors of the test's own process. Those of earlier tests may be closed at any moment."""

from contextlib import suppress
from pathlib import Path


def open_beneath(folder: Path) -> list[Path]:
    """Return the files and folders beneath a folder, or the folder itself, that are open."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            targets.append(descriptor.readlink())
    return [target for target in targets if target.is_relative_to(folder.resolve())]
