"""What every form of image file offers to XMP: a packet to read, and a place to write it to."""

from typing import Protocol

from captiond.photofiles.image_words import OtherWords
from captiond.photofiles.metadata_errors import NoPlaceForMetadata

PACKET_END = b"<?xpacket end="


class PacketPlace(Protocol):
    """A parsed image file. Nothing but the packet and its length fields ever changes."""

    @property
    def packet(self) -> bytes:
        """The XMP packet in the file, empty if there is none.

        Raises:
            MetadataUnreadable: there is one that cannot be read.
        """

    @property
    def words(self) -> OtherWords:
        """What the file says outside of XMP."""

    def with_packet(self, packet: bytes) -> bytes:
        """Return the file with another packet.

        Raises:
            NoPlaceForMetadata: the file cannot have this packet.
        """


def damaged(form: str) -> NoPlaceForMetadata:
    """Return the error for a file whose structure is not what it should be."""
    return NoPlaceForMetadata(
        f"the structure of this {form} file is unusual; use --sidecar xmp instead of --embed"
    )


def unpadded(packet: bytes) -> bytes:
    """Return a packet without the spaces that programs leave for later changes."""
    content, end, trailer = packet.rpartition(PACKET_END)
    return content.rstrip() + b"\n" + end + trailer if end else packet
