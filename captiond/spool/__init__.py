"""The spool: the bytes of uploaded images, until their task is finished.

All images of one request are stored one after the other in one spool file, so a request costs one
fsync, or one object, however many images it has. Messages and database rows name a file by its
name, never by its path, because `Spool` is an interface. It has two homes: a folder (`folder`) and
a bucket of object storage (`objects`), and `homes` chooses between them.

Only files of tasks have to survive, so only they are kept in object storage. The images of a client
who waits are in the folder: they are needed for seconds, by this machine.
"""

from captiond.spool.folder import FolderSpool, remove, sync_folder
from captiond.spool.homes import open_objects, open_spool
from captiond.spool.interface import HEAD_BYTES, DiskSpace, Spool, SpoolWriter, is_object

__all__ = [
    "HEAD_BYTES",
    "DiskSpace",
    "FolderSpool",
    "Spool",
    "SpoolWriter",
    "is_object",
    "open_objects",
    "open_spool",
    "remove",
    "sync_folder",
]
