"""Which forms of image files can have words in them, and how these are read and written."""

from captiond.decoding.files.directory import Sliceable
from captiond.imagetypes import image_type
from captiond.photofiles.image_words import NewWords, OtherWords
from captiond.photofiles.jpeg_packet import JpegPacket
from captiond.photofiles.merging import Merged, has_own_words, merge, words_in
from captiond.photofiles.metadata_errors import MetadataUnreadable, NoPlaceForMetadata
from captiond.photofiles.packet_place import PacketPlace
from captiond.photofiles.png_packet import PngPacket
from captiond.photofiles.tiff_packet import TiffPacket
from captiond.photofiles.webp_packet import WebpPacket
from captiond.photofiles.xmp_packet import EMPTY

PLACES: dict[str, type[JpegPacket | PngPacket | WebpPacket | TiffPacket]] = {
    "jpeg": JpegPacket,
    "png": PngPacket,
    "webp": WebpPacket,
    "tiff": TiffPacket,
}
BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'.encode()
END = b'<?xpacket end="w"?>'
HEAD = 64


def place_in(content: Sliceable) -> PacketPlace:
    """Return an image file as a place for XMP.

    Raises:
        NoPlaceForMetadata: files of this type, or this file, have none.
    """
    kind = image_type(content[:HEAD]) or "unknown"
    if kind not in PLACES:
        raise NoPlaceForMetadata(
            f"captiond cannot write into files of the type {kind}; use --sidecar xmp instead of "
            "--embed"
        )
    return PLACES[kind](content)


def has_embedded_words(content: Sliceable) -> bool:
    """Return whether captiond has written into this image before.

    A file that is no image has no words: the decoder says better what is wrong with it.

    Raises:
        NoPlaceForMetadata, MetadataUnreadable
    """
    if image_type(content[:HEAD]) is None:
        return False
    return has_own_words(place_in(content).packet)


def embedded_words(content: Sliceable) -> OtherWords:
    """Return what a person wrote into an image. What cannot be read is ignored."""
    try:
        place = place_in(content)
        return words_in(place.packet) | place.words
    except (NoPlaceForMetadata, MetadataUnreadable):
        return OtherWords()


def embed(content: Sliceable, new: NewWords, *, overwrite: bool) -> tuple[bytes, Merged]:
    """Return an image file with the new words, and what became of its packet.

    Raises:
        NoPlaceForMetadata, MetadataUnreadable
    """
    place = place_in(content)
    packet = place.packet or BEGIN + EMPTY + END
    merged = merge(packet, new, place.words, overwrite=overwrite)
    return place.with_packet(merged.packet), merged
