"""XMP in image files: every byte of the image and of other metadata stays the same."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from captiond.decoding.files.directory import Directory
from captiond.photofiles.embedding import embed, embedded_words, has_embedded_words, place_in
from captiond.photofiles.image_words import NewWords, OtherWords
from captiond.photofiles.metadata_errors import MetadataUnreadable, NoPlaceForMetadata
from tests.unit.test_xmp import BOAT, PERSONS, fields

XMP_KEY = "XML:com.adobe.xmp"
PADDED = b'<?xpacket begin=""?>' + PERSONS[PERSONS.index(b"<x:") : PERSONS.rindex(b"<?")]


def picture(mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (40, 30), 7)
    image.paste(200, (5, 5, 20, 20))
    return image


def saved(form: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = BytesIO()
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def exif(description: str = "") -> bytes:
    data = Image.Exif()
    data[0x0112] = 6
    if description:
        data[0x010E] = description
    return data.tobytes()


def packet_by_pillow(content: bytes) -> bytes:
    """Return the XMP packet as Pillow reads it."""
    with Image.open(BytesIO(content)) as image:
        image.load()
        packet = image.info.get("xmp") or image.info.get(XMP_KEY) or b""
    return packet if isinstance(packet, bytes) else packet.encode()


def pixels(content: bytes) -> list[bytes]:
    """Return the pixels of each frame."""
    frames = []
    with Image.open(BytesIO(content)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(image.tobytes())
    return frames


def webp_animation() -> bytes:
    frames = [picture(), picture().rotate(90)]
    return saved("WEBP", frames[0], save_all=True, append_images=frames[1:])


def pages() -> bytes:
    return saved("TIFF", picture(), save_all=True, append_images=[picture("L"), picture("1")])


def interleaved_png() -> bytes:
    """A PNG whose pixels are in many chunks, with a comment behind them."""
    content = saved("PNG", picture("P"))
    at = content.index(b"IDAT") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    data = content[at + 8 : at + 8 + size]
    parts = b"".join(png_chunk(b"IDAT", data[n : n + 9]) for n in range(0, len(data), 9))
    return content[:at] + parts + png_chunk(b"tEXt", b"Comment\0hi") + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved("JPEG"),
    "jpeg with exif": lambda: saved("JPEG", exif=exif(), icc_profile=b"profile" * 30),
    "progressive jpeg": lambda: saved("JPEG", progressive=True, comment=b"hello"),
    "jpeg with xmp": lambda: saved("JPEG", exif=exif(), xmp=PERSONS),
    "jpeg with a trailer": lambda: saved("JPEG") + b"trailer of a phone",
    "png": lambda: saved("PNG"),
    "png in chunks": interleaved_png,
    "16 bit png": lambda: saved("PNG", picture("I;16")),
    "lossy webp": lambda: saved("WEBP"),
    "lossless webp": lambda: saved("WEBP", lossless=True),
    "webp with alpha": lambda: saved("WEBP", picture("RGBA"), lossless=True),
    "webp with all": lambda: saved("WEBP", exif=exif(), icc_profile=b"p" * 11, xmp=PERSONS),
    "animated webp": webp_animation,
    "tiff": lambda: saved("TIFF"),
    "compressed tiff": lambda: saved("TIFF", compression="tiff_lzw", exif=exif()),
    "pages of tiff": pages,
    "big tiff": lambda: saved("TIFF", big_tiff=True),
    "tiff with xmp": lambda: saved("TIFF", tiffinfo={700: PERSONS}),
}


@pytest.mark.parametrize("name", FILES)
def test_words_are_embedded_and_the_pixels_stay(name: str) -> None:
    before = FILES[name]()
    after, merged = embed(before, BOAT, overwrite=False)
    assert pixels(after) == pixels(before)
    found = fields(packet_by_pillow(after))
    assert set(found["subject"]) >= {"red boat", "lake"}
    assert found["alt"] == [BOAT.alt_text]
    persons = packet_by_pillow(before) != b""
    assert found["description"] == (["Unser Boot"] if persons else ["a red boat on a lake"])
    assert merged.kept == (("description",) if persons else ())
    assert has_embedded_words(after)
    assert not has_embedded_words(before)


@pytest.mark.parametrize("name", FILES)
def test_other_metadata_stay(name: str) -> None:
    before = FILES[name]()
    after, _ = embed(before, BOAT, overwrite=False)
    with Image.open(BytesIO(before)) as old, Image.open(BytesIO(after)) as new:
        old_exif, new_exif = dict(old.getexif()), dict(new.getexif())
        old_exif.pop(700, None)
        new_exif.pop(700, None)
        assert old_exif == new_exif
        for key in ("icc_profile", "exif", "comment", "dpi", "Comment", "loop", "duration"):
            assert old.info.get(key) == new.info.get(key), key


@pytest.mark.parametrize("name", FILES)
def test_a_second_time_replaces_the_packet(name: str) -> None:
    once, _ = embed(FILES[name](), BOAT, overwrite=False)
    other = NewWords("another", (("sea", "nature"),), "m", "Another.")
    twice, _ = embed(once, other, overwrite=True)
    assert pixels(twice) == pixels(once)
    found = fields(packet_by_pillow(twice))
    assert found["alt"] == ["Another."]
    assert "red boat" not in found["subject"]
    assert "sea" in found["subject"]
    if "tiff" not in name:  # a TIFF keeps its former packet as unused bytes
        assert twice.count(b"captiond:Model>") == 2


def test_outside_of_the_packet_no_byte_of_a_jpeg_changes() -> None:
    before = saved("JPEG", exif=exif(), icc_profile=b"profile")
    after, _ = embed(before, BOAT, overwrite=False)
    at = after.index(b"http://ns.adobe.com/xap") - 4
    size = int.from_bytes(after[at + 2 : at + 4], "big")
    assert after[:at] + after[at + 2 + size :] == before
    assert before[:at].endswith(exif()[-8:]), "the packet follows the EXIF data"


def test_a_tiff_is_only_appended_to() -> None:
    before = pages()
    after, _ = embed(before, BOAT, overwrite=False)
    assert after[8 : len(before)] == before[8:]
    assert Directory(after).entries.keys() == Directory(before).entries.keys() | {700}


@pytest.mark.parametrize(
    "content",
    [
        saved("JPEG", exif=exif("by a person")),
        saved("TIFF", tiffinfo={270: "by a person"}),
        saved("WEBP", exif=exif("by a person")),
        saved("PNG", exif=exif("by a person")),
    ],
    ids=["jpeg", "tiff", "webp", "png"],
)
def test_a_description_in_exif_is_a_persons_too(content: bytes) -> None:
    assert embedded_words(content) == OtherWords("by a person")
    after, merged = embed(content, BOAT, overwrite=False)
    assert merged.kept == ("description",)
    assert fields(packet_by_pillow(after))["description"] == []
    assert embedded_words(after) == OtherWords("by a person")


def test_what_a_camera_writes_into_each_image_is_no_description() -> None:
    content = saved("JPEG", exif=exif("OLYMPUS DIGITAL CAMERA         "))
    assert embed(content, BOAT, overwrite=False)[1].kept == ()


def test_keywords_and_caption_of_iptc_are_kept_visible() -> None:
    sets = b"".join(
        bytes((0x1C, 2, number)) + len(text).to_bytes(2, "big") + text
        for number, text in ((25, b"Rome"), (25, "Café".encode()), (120, b"The square"))
    )
    resource = b"8BIM\x04\x04\0\0" + len(sets).to_bytes(4, "big") + sets + b"\0" * (len(sets) % 2)
    other = b"8BIM\x03\xed\0\0" + (16).to_bytes(4, "big") + bytes(16)
    body = b"Photoshop 3.0\0" + other + resource
    jpeg = saved("JPEG")
    content = jpeg[:2] + b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    assert embedded_words(content) == OtherWords("The square", ("Rome", "Café"))
    after, merged = embed(content, BOAT, overwrite=False)
    assert merged.kept == ("description",)
    assert fields(packet_by_pillow(after))["subject"][:2] == ["Rome", "Café"]


def test_a_full_packet_loses_its_padding_first() -> None:
    end = b'<?xpacket end="w"?>'
    padded = PADDED.ljust(65_480) + end
    jpeg = saved("JPEG", xmp=padded)
    after, _ = embed(jpeg, BOAT, overwrite=False)
    assert fields(packet_by_pillow(after))["description"] == ["Unser Boot"]
    full = PADDED.replace(b"Unser Boot", b"x" * 64_000) + end
    with pytest.raises(NoPlaceForMetadata, match="packet is full"):
        embed(saved("JPEG", xmp=full), BOAT, overwrite=False)


def test_pictures_behind_the_first_one_stay_where_their_distance_says() -> None:
    """A segment MPF has the distance to the next picture. Nothing may move between them."""
    jpeg = saved("JPEG", xmp=PERSONS)
    at = jpeg.index(b"\xff\xe1")
    mpf = b"\xff\xe2" + (10).to_bytes(2, "big") + b"MPF\0II*\0"
    with pytest.raises(NoPlaceForMetadata, match="several pictures"):
        embed(jpeg[:at] + mpf + jpeg[at:], BOAT, overwrite=False)
    plain = saved("JPEG")
    end = 2 + 2 + int.from_bytes(plain[4:6], "big")
    behind = plain[:end] + mpf + plain[end:]
    after, _ = embed(behind, BOAT, overwrite=False)
    assert after.endswith(behind[end:])


def test_a_packet_in_two_parts_is_left_alone_if_the_second_one_has_the_fields() -> None:
    jpeg = saved("JPEG", xmp=PERSONS)
    header = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8)
    for text, refused in ((b"http://ns.google.com/x", False), (PERSONS, True)):
        body = header + text
        extension = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
        content = jpeg[:2] + extension + jpeg[2:]
        if refused:
            with pytest.raises(NoPlaceForMetadata, match="second part"):
                embed(content, BOAT, overwrite=False)
        else:
            assert extension in embed(content, BOAT, overwrite=False)[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved("GIF"), "type gif"),
        (saved("BMP"), "type bmp"),
        (b"text", "type unknown"),
        (saved("JPEG")[:40], "unusual"),
        (saved("PNG")[:-6], "unusual"),
        (saved("WEBP")[:-6], "unusual"),
        (saved("WEBP")[:26] + b"\0\0" + saved("WEBP")[28:], "unusual"),
        (saved("TIFF")[:9], "unusual"),
        (
            b"II*\0\x08\0\0\0" + struct.pack("<HHHI4s", 1, 50706, 1, 4, b"\1\4\0\0") + bytes(4),
            "raw",
        ),
    ],
    ids=[
        "gif",
        "bmp",
        "text",
        "cut jpeg",
        "cut png",
        "cut webp",
        "webp without a width",
        "cut tiff",
        "raw",
    ],
)
def test_files_without_a_place_are_refused_with_what_to_do(content: bytes, reason: str) -> None:
    with pytest.raises(NoPlaceForMetadata, match=reason) as raised:
        place_in(content).with_packet(b"")
    assert "--sidecar xmp" in str(raised.value)


def test_compressed_xmp_of_a_png_is_read() -> None:
    content = saved("PNG")
    packet = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PERSONS)
    content = content[:33] + png_chunk(b"iTXt", packet) + content[33:]
    after, merged = embed(content, BOAT, overwrite=False)
    assert merged.kept == ("description",)
    assert fields(packet_by_pillow(after))["description"] == ["Unser Boot"]


@pytest.mark.parametrize(
    "packed",
    [zlib.compress(PERSONS + b" " * (1 << 20)), b"\x78\x9cdamaged"],
    ids=["long", "damaged"],
)
def test_compressed_xmp_that_cannot_be_read_is_not_replaced(packed: bytes) -> None:
    content = saved("PNG")
    packet = b"XML:com.adobe.xmp\0\1\0\0\0" + packed
    content = content[:33] + png_chunk(b"iTXt", packet) + content[33:]
    with pytest.raises(MetadataUnreadable, match="its compressed XMP is damaged, or longer"):
        embed(content, BOAT, overwrite=True)
    assert embedded_words(content) == OtherWords()
