"""Where the spool is: in a folder, or in object storage with a folder beside it."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from captiond.jobs import SpooledImage
from captiond.settings.config import Settings
from captiond.spool.folder import FolderSpool
from captiond.spool.interface import DiskSpace, Spool, SpoolWriter, is_object

if TYPE_CHECKING:
    from captiond.spool.objects import ObjectSpool


class TwoHomes:
    """A spool whose durable files are in a bucket, and the others in a folder.

    A file's name says where it is. So files that were written before the setting was changed are
    read from where they are.
    """

    def __init__(self, folder: FolderSpool, objects: "ObjectSpool") -> None:
        self._folder = folder
        self.objects = objects

    @property
    def remote(self) -> bool:
        return True

    def writer(self, owner: str, *, durable: bool) -> SpoolWriter:
        if durable:
            return self.objects.writer(owner)
        return self._folder.writer(owner, durable=False)

    def read(self, image: SpooledImage) -> bytes:
        return self._home(image.file).read(image)

    def remove(self, names: Iterable[str]) -> None:
        files = list(names)
        self._folder.remove(name for name in files if not is_object(name))
        if objects := [name for name in files if is_object(name)]:
            self.objects.remove(objects)

    def sweep(self, keep: Collection[str], *, owner: str) -> int:
        return self._folder.sweep(keep, owner=owner) + self.objects.sweep(keep, owner)

    def sweep_at_start(self, keep: Collection[str]) -> int:
        """Leave the objects alone: another machine may be writing some of them now."""
        return self._folder.sweep_at_start(keep)

    def sizes(self) -> dict[str, int]:
        return self._folder.sizes() | self.objects.sizes()

    def total_size(self) -> int:
        return self._folder.total_size() + self.objects.total_size()

    def disk_space(self) -> DiskSpace:
        return self._folder.disk_space()

    def written_before(self, moment: float) -> list[str]:
        return self._folder.written_before(moment) + self.objects.written_before(moment)

    def place(self, name: str) -> str:
        return self._home(name).place(name)

    def _home(self, name: str) -> "FolderSpool | ObjectSpool":
        return self.objects if is_object(name) else self._folder


def open_spool(settings: Settings) -> Spool:
    """Return the spool that the settings describe.

    Raises:
        SettingsError: the object storage of the settings cannot be used.
    """
    objects, folder = open_objects(settings), FolderSpool(settings.spool)
    return folder if objects is None else TwoHomes(folder, objects)


def open_objects(settings: Settings) -> "ObjectSpool | None":
    """Return the part of the spool that is in object storage, or None if the settings name none.

    Raises:
        SettingsError: it cannot be used.
    """
    if not settings.uploads.url:
        return None
    from captiond.spool.bucket import open_bucket
    from captiond.spool.objects import ObjectSpool

    return ObjectSpool(open_bucket(settings.uploads), settings.spool)
