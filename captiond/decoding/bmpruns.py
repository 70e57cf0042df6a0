"""Run-length encoded BMP files. Pillow's own decoder fills rows pixel by pixel, in Python."""

from typing import Any

from PIL import Image, ImageFile

END_OF_ROW, END, MOVE = 0, 1, 2  # commands; greater numbers are literal pixels


class BmpRuns(ImageFile.PyDecoder):
    """Pillow's decoder `bmp_rle`: 8-bit and 4-bit runs to pixels of one byte.

    Pixels that no run covers have the colour 0.
    """

    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        assert self.fd is not None
        width, height = self.state.xsize, self.state.ysize
        pixels = unpacked(self.fd.read(), width, height, nibbles=self.args[1])
        self.set_as_raw(bytes(pixels), "L" if self.mode in {"1", "L"} else "P", (0, self.args[-1]))
        return -1, 0


def register() -> None:
    """Replace Pillow's decoder in this process."""
    Image.register_decoder("bmp_rle", BmpRuns)


def unpacked(data: bytes, width: int, height: int, *, nibbles: bool) -> bytearray:
    """Return the pixels in the order of the file's rows; `nibbles` are runs of 4-bit pixels.

    Raises:
        ValueError: the data end before the pixels do.
    """
    pixels = bytearray(width * height)
    x, y, at = 0, 0, 0
    while y < height and (x < width or y < height - 1):
        if at + 2 > len(data):
            raise ValueError("not enough image data")
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            run = doubled(value)[:count] if nibbles else bytes((value,)) * count
        elif value == END:
            break
        elif value == END_OF_ROW:
            x, y = 0, y + 1
            continue
        elif value == MOVE:
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        else:
            size = (value + 1) // 2 if nibbles else value
            run = literal(data[at : at + size], value, nibbles=nibbles)
            at += size + size % 2
        place = y * width + min(x, width)
        kept = run[: max(0, width - x)]
        pixels[place : place + len(kept)] = kept
        x += len(run)
    return pixels


def doubled(value: int) -> bytes:
    """Return 256 pixels of the two colours of a byte in turn."""
    return bytes((value >> 4, value & 15)) * 128


def literal(raw: bytes, count: int, *, nibbles: bool) -> bytes:
    if not nibbles:
        return raw
    return bytes(half for byte in raw for half in (byte >> 4, byte & 15))[:count]
