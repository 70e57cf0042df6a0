"""ICC profiles (version 2) of what a file says by numbers: a gamma, and perhaps primaries."""

import struct

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]  # a chromaticity, xy
Matrix = npt.NDArray[np.float64]
WHITE_D50 = (0.3457, 0.3585)
# White, red, green and blue of sRGB.
SRGB_POINTS: tuple[Point, ...] = ((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
# The responses of the eye's receptors by the method of Bradford, which ICC profiles use.
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
HEADER_BYTES, ENTRY_BYTES = 128, 12
LEAST_GAMMA, MOST_GAMMA = 0.1, 10.0
MOST_COLORANT = 10.0  # of a colour that exists


def made_profile(gamma: float, points: tuple[Point, ...] | None) -> bytes:
    """Return a profile for RGB with these chromaticities of white, red, green and blue, or one for
    grey. It is empty if the numbers make no colours.
    """
    if not LEAST_GAMMA <= gamma <= MOST_GAMMA:
        return b""
    if points is None:
        return assembled(b"GRAY", {b"kTRC": curve(gamma), b"wtpt": xyz_tag(xyz(WHITE_D50))})
    matrix = colorants(points)
    if matrix is None:
        return b""
    tags = {b"wtpt": xyz_tag(xyz(WHITE_D50))}
    for column, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = xyz_tag(matrix[:, column])
        tags[name + b"TRC"] = curve(gamma)
    return assembled(b"RGB ", tags)


def colorants(points: tuple[Point, ...]) -> Matrix | None:
    """Return the columns XYZ of red, green and blue on a white of D50."""
    if any(y <= 0 for _, y in points):
        return None
    white, *primaries = map(xyz, points)
    columns = np.stack(primaries, axis=1)
    try:
        matrix = columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError:
        return None
    gain = (BRADFORD @ xyz(WHITE_D50)) / (BRADFORD @ white)
    adapted: Matrix = np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ matrix
    return adapted if np.isfinite(adapted).all() and np.abs(adapted).max() < MOST_COLORANT else None


def xyz(point: Point) -> Matrix:
    x, y = point
    return np.array((x / y, 1.0, (1 - x - y) / y))


def xyz_tag(values: Matrix) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def assembled(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of a display."""
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\1\0" + bytes(79),
        b"cprt": b"text\0\0\0\0\0\0\0\0",
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    begin = HEADER_BYTES + 4 + ENTRY_BYTES * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", begin + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4xI4s4s4s", begin + len(data), 0x02400000, b"mntr", space, b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + xyz_tag(xyz(WHITE_D50))[8:]
    return head.ljust(HEADER_BYTES, b"\0") + table + data
