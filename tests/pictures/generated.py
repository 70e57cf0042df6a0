"""The generated files: what formats can store, in all combinations that people meet."""

import subprocess
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Generated:
    """One file. `viewer` shows it; `profiled` says that it has an ICC profile.

    Some viewers misread some files. Such a file has a `twin`: a file with the same pixels in a
    form that the viewer reads rightly, and which it shows instead. `size` is the upright width and
    height in captiond's result, if the picture that is shown has others. `refused` is what the
    message says if captiond refuses the file by its kind.
    """

    kind: str
    name: str
    content: bytes
    viewer: str = "magick"
    profiled: bool = False
    twin: bytes = b""
    hdr: bool = False
    refused: str = ""
    size: tuple[int, int] | None = None


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return a picture as it is stored with an orientation."""
    return image.transpose(UNDO[orientation]) if orientation in UNDO else image


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        f'tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
    ).encode()


def by_program(source: bytes, suffix: str, *command: str, source_suffix: str = ".png") -> bytes:
    """Return what a program makes of a file. {in} and {out} stand for the files."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"in": f"{folder}/in{source_suffix}", "out": f"{folder}/out{suffix}"}
        Path(names["in"]).write_bytes(source)
        filled = [part.format(**names) for part in command]
        subprocess.run(filled, check=True, capture_output=True, timeout=120)
        return Path(names["out"]).read_bytes()
