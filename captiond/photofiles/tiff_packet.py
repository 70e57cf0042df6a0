"""The XMP packet of a TIFF file: tag 700 of its first directory (XMP specification, part 3).

The packet and a new first directory are appended, and the header points to that. All that was in
the file stays where it is.
"""

import struct

from captiond.decoding.files.camera import camera_name
from captiond.decoding.files.directory import BYTE, Directory, Sliceable
from captiond.decoding.files.tiff import MAX_METADATA, XMP
from captiond.photofiles.embedded_words import exif_words, iptc_words
from captiond.photofiles.image_words import OtherWords
from captiond.photofiles.metadata_errors import NoPlaceForMetadata
from captiond.photofiles.packet_place import damaged

IPTC = 33723
LARGEST_CLASSIC = 1 << 32


class TiffPacket:
    """A TIFF file as a place for XMP.

    Raises:
        NoPlaceForMetadata: its first directory cannot be read, or it is a camera's raw file.
    """

    def __init__(self, content: Sliceable) -> None:
        self._content = content
        self._directory = Directory(content)
        self._order, self._big = self._directory.order, self._directory.big
        self._pointer, self._number = ("Q", "Q") if self._big else ("I", "H")
        self._entry = struct.Struct(self._order + ("HHQ8s" if self._big else "HHI4s"))
        if name := camera_name(content, self._directory):
            raise NoPlaceForMetadata(
                f"captiond does not write into the raw file of a camera ({name}); use "
                "--sidecar xmp instead of --embed"
            )

    @property
    def packet(self) -> bytes:
        """The XMP packet."""
        return self._directory.value(XMP, MAX_METADATA).rstrip(b"\0")

    @property
    def words(self) -> OtherWords:
        """What the tags of EXIF and IPTC say."""
        return exif_words(self._content) | iptc_words(self._directory.value(IPTC, MAX_METADATA))

    def with_packet(self, packet: bytes) -> bytes:
        """Return the file with another packet."""
        content = self._content
        entries, following = self._raw_directory()
        begin = len(content) + len(content) % 2
        at = begin + len(packet) + len(packet) % 2
        field = struct.pack(self._order + self._pointer, begin)
        own = self._entry.pack(XMP, BYTE, len(packet), field)
        others = [entry for entry in entries if self._tag(entry) != XMP]
        directory = sorted([*others, own], key=self._tag)
        header = struct.pack(self._order + self._number, len(directory))
        appended = packet + b"\0" * (len(packet) % 2) + header + b"".join(directory) + following
        if not self._big and at + len(appended) > LARGEST_CLASSIC:
            raise NoPlaceForMetadata(
                "it is too large for another directory; use --sidecar xmp instead of --embed"
            )
        place = 8 if self._big else 4
        pointed = struct.pack(self._order + self._pointer, at)
        rest = content[place + len(pointed) :]
        return content[:place] + pointed + rest + b"\0" * (len(content) % 2) + appended

    def _tag(self, entry: bytes) -> int:
        return int(struct.unpack_from(self._order + "H", entry)[0])

    def _raw_directory(self) -> tuple[list[bytes], bytes]:
        """Return the entries of the first directory, and the pointer to the second one."""
        begin = self._read(self._pointer, 8 if self._big else 4)
        count = self._read(self._number, begin)
        first = begin + struct.calcsize(self._number)
        end = first + count * self._entry.size
        following = self._content[end : end + struct.calcsize(self._pointer)]
        if not count or len(following) < struct.calcsize(self._pointer):
            raise damaged("TIFF")
        size = self._entry.size
        return [self._content[at : at + size] for at in range(first, end, size)], following

    def _read(self, code: str, at: int) -> int:
        raw = self._content[at : at + struct.calcsize(code)]
        if len(raw) < struct.calcsize(code):
            raise damaged("TIFF")
        return int(struct.unpack(self._order + code, raw)[0])
