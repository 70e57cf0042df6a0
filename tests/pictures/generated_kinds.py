"""Raw files of cameras, kinds that are refused by name, and files that lack a part."""

from collections.abc import Iterator

from tests.pictures.generated import Generated, encoded
from tests.pictures.sample import picture
from tests.unit.test_camera_files import FULL, JPEG, THUMBNAIL, arw, cr2, dng, nef
from tests.unit.test_image_types import FILES, IMAGES


def generated_kinds() -> Iterator[Generated]:
    raws = {"DNG": dng(THUMBNAIL, JPEG), "NEF": nef(), "ARW": arw(), "CR2": cr2()}
    for name, content in raws.items():
        yield Generated("raw", f"{name}.{name.lower()}", content, twin=JPEG, size=FULL)
    for name, content in (("thumbnail", dng(THUMBNAIL)), ("no size", cr2(exif=False))):
        yield Generated("raw", f"{name}.dng", content, refused="raw file of a camera")
    for name, content in IMAGES.items():
        yield Generated("other images", name, content, refused=name.strip())
    for name, content in FILES.items():
        yield Generated("no images", name, content, refused=name.strip())
    yield from cut()


def cut() -> Iterator[Generated]:
    """Yield files whose end is missing."""
    for options in ({}, {"progressive": True}):
        whole = encoded(picture(), "JPEG", **options)
        for share in (0.5, 0.9):
            content = whole[: int(len(whole) * share)]
            name = f"{share} {options}.jpg"
            yield Generated("cut", name, content, refused="data are missing from row")
            name = f"{share} {options} with an end.jpg"
            if not options:
                content += b"\xff\xd9"
                yield Generated("cut", name, content, refused="data are missing from row")
    for format_ in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"):
        whole = encoded(picture(), format_)
        name = f"half.{format_.lower()}"
        refused = "header cannot be read" if format_ == "AVIF" else "truncated"
        yield Generated("cut", name, whole[: len(whole) // 2], refused=refused)
