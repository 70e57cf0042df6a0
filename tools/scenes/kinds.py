"""The drawings of each kind of thing: silhouettes in a unit square, x to the right, y down."""

from collections.abc import Callable
from math import cos, pi, sin

from PIL import Image, ImageDraw

from tools.scenes.palette import RGB, mix

Point = tuple[float, float]
Paint = tuple[int, int, int, int]

_BLACK: RGB = (0, 0, 0)
_WHITE: RGB = (255, 255, 255)


class Pen:
    """Draws one thing in one colour on a square transparent tile of `side` pixels.

    `body` is the colour itself. `detail` is a tone of it for doors, windows and wheels. `clear`
    removes paint.
    """

    def __init__(self, side: int, colour: RGB) -> None:
        toward = _WHITE if sum(colour) < 150 else _BLACK
        self.body: Paint = (*colour, 255)
        self.detail: Paint = (*mix(colour, toward, 0.45), 255)
        self.clear: Paint = (*colour, 0)
        self.tile = Image.new("RGBA", (side, side), self.clear)
        self._draw = ImageDraw.Draw(self.tile)
        self._side = side

    def polygon(self, points: list[Point], paint: Paint) -> None:
        """Draw a filled polygon through `points`."""
        self._draw.polygon([(x * self._side, y * self._side) for x, y in points], fill=paint)

    def box(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Draw a filled rectangle."""
        self._draw.rectangle(self._scaled(left, top, right, bottom), fill=paint)

    def oval(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Draw a filled ellipse that touches the four sides of the box."""
        self._draw.ellipse(self._scaled(left, top, right, bottom), fill=paint)

    def disc(self, x: float, y: float, radius: float, paint: Paint) -> None:
        """Draw a filled circle."""
        self.oval(x - radius, y - radius, x + radius, y + radius, paint)

    def dome(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Draw the upper half of an ellipse. `bottom` is its flat side."""
        whole = self._scaled(left, top, right, 2 * bottom - top)
        self._draw.pieslice(whole, 180, 360, fill=paint)

    def _scaled(self, left: float, top: float, right: float, bottom: float) -> list[float]:
        return [left * self._side, top * self._side, right * self._side, bottom * self._side]


def _around(count: int, radius: float, start: float = -pi / 2) -> list[Point]:
    turns = (start + 2 * pi * i / count for i in range(count))
    return [(0.5 + radius * cos(turn), 0.5 + radius * sin(turn)) for turn in turns]


def _mirrored(left: list[Point]) -> list[Point]:
    return left + [(1 - x, y) for x, y in reversed(left)]


def draw_circle(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.5, pen.body)


def draw_square(pen: Pen) -> None:
    pen.box(0.04, 0.04, 0.96, 0.96, pen.body)


def draw_triangle(pen: Pen) -> None:
    pen.polygon([(0.5, 0.02), (1, 0.94), (0, 0.94)], pen.body)


def draw_star(pen: Pen) -> None:
    outer, inner = _around(5, 0.52), _around(5, 0.21, start=-pi / 2 + pi / 5)
    pen.polygon([point for pair in zip(outer, inner, strict=True) for point in pair], pen.body)


def draw_heart(pen: Pen) -> None:
    pen.disc(0.265, 0.3, 0.265, pen.body)
    pen.disc(0.735, 0.3, 0.265, pen.body)
    pen.polygon(_mirrored([(0.5, 0.26), (0.035, 0.43), (0.5, 1)]), pen.body)


def draw_moon(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.5, pen.body)
    pen.disc(0.73, 0.42, 0.42, pen.clear)


def draw_sun(pen: Pen) -> None:
    for (x, y), (right, up) in zip(_around(8, 0.5), _around(8, 0.1), strict=True):
        across = (-(up - 0.5), right - 0.5)
        root = (0.5 + 0.33 * (x - 0.5) / 0.5, 0.5 + 0.33 * (y - 0.5) / 0.5)
        wide = [(root[0] + s * across[0], root[1] + s * across[1]) for s in (-1, 1)]
        pen.polygon([*wide, (x, y)], pen.body)
    pen.disc(0.5, 0.5, 0.27, pen.body)


def draw_cloud(pen: Pen) -> None:
    pen.disc(0.2, 0.6, 0.2, pen.body)
    pen.disc(0.46, 0.43, 0.27, pen.body)
    pen.disc(0.76, 0.57, 0.23, pen.body)
    pen.box(0.2, 0.55, 0.78, 0.8, pen.body)


def draw_tree(pen: Pen) -> None:
    pen.box(0.42, 0.8, 0.58, 1, pen.detail)
    for top, half in ((0.0, 0.24), (0.24, 0.34), (0.48, 0.44)):
        pen.polygon([(0.5, top), (0.5 + half, top + 0.36), (0.5 - half, top + 0.36)], pen.body)


def draw_house(pen: Pen) -> None:
    pen.box(0.14, 0.45, 0.86, 0.98, pen.body)
    pen.polygon([(0.5, 0.02), (1, 0.48), (0, 0.48)], pen.detail)
    pen.box(0.4, 0.64, 0.62, 0.98, pen.detail)


def draw_boat(pen: Pen) -> None:
    pen.polygon([(0, 0.7), (1, 0.7), (0.8, 0.96), (0.2, 0.96)], pen.body)
    pen.box(0.46, 0.02, 0.52, 0.7, pen.detail)
    pen.polygon([(0.56, 0.04), (0.94, 0.62), (0.56, 0.62)], pen.body)
    pen.polygon([(0.42, 0.16), (0.42, 0.62), (0.12, 0.62)], pen.body)


def draw_car(pen: Pen) -> None:
    pen.polygon([(0.2, 0.5), (0.32, 0.22), (0.68, 0.22), (0.84, 0.5)], pen.body)
    pen.polygon([(0.3, 0.48), (0.38, 0.3), (0.48, 0.3), (0.48, 0.48)], pen.detail)
    pen.polygon([(0.54, 0.48), (0.54, 0.3), (0.64, 0.3), (0.73, 0.48)], pen.detail)
    pen.box(0, 0.48, 1, 0.72, pen.body)
    for x in (0.23, 0.77):
        pen.disc(x, 0.72, 0.14, pen.detail)


def draw_fish(pen: Pen) -> None:
    pen.oval(0, 0.24, 0.74, 0.78, pen.body)
    pen.polygon([(0.62, 0.51), (1, 0.2), (1, 0.82)], pen.body)
    pen.disc(0.18, 0.44, 0.06, pen.detail)


def draw_flower(pen: Pen) -> None:
    pen.box(0.46, 0.5, 0.54, 1, pen.detail)
    pen.polygon([(0.5, 0.94), (0.8, 0.7), (0.84, 0.82)], pen.detail)
    pen.polygon([(0.5, 0.94), (0.2, 0.7), (0.16, 0.82)], pen.detail)
    for x, y in _around(5, 0.21):
        pen.disc(x, y - 0.16, 0.155, pen.body)
    pen.disc(0.5, 0.34, 0.11, pen.detail)


def draw_cat(pen: Pen) -> None:
    pen.oval(0.06, 0.24, 0.94, 0.98, pen.body)
    pen.polygon([(0.08, 0.02), (0.46, 0.32), (0.08, 0.62)], pen.body)
    pen.polygon([(0.92, 0.02), (0.92, 0.62), (0.54, 0.32)], pen.body)
    pen.disc(0.33, 0.53, 0.08, pen.detail)
    pen.disc(0.67, 0.53, 0.08, pen.detail)
    pen.polygon([(0.42, 0.7), (0.58, 0.7), (0.5, 0.8)], pen.detail)


def draw_cup(pen: Pen) -> None:
    pen.disc(0.72, 0.5, 0.27, pen.body)
    pen.disc(0.72, 0.5, 0.15, pen.clear)
    pen.polygon([(0, 0.14), (0.74, 0.14), (0.64, 0.92), (0.1, 0.92)], pen.body)
    pen.oval(0.02, 0.08, 0.72, 0.22, pen.detail)


def draw_umbrella(pen: Pen) -> None:
    pen.box(0.46, 0.4, 0.54, 0.86, pen.detail)
    pen.disc(0.62, 0.84, 0.16, pen.detail)
    pen.disc(0.62, 0.84, 0.08, pen.clear)
    pen.box(0.55, 0.64, 0.8, 0.83, pen.clear)
    pen.dome(0, 0.02, 1, 0.52, pen.body)
    for x in (0.17, 0.5, 0.83):
        pen.oval(x - 0.155, 0.43, x + 0.155, 0.61, pen.clear)
    pen.box(0.46, 0.42, 0.54, 0.8, pen.detail)


def draw_mushroom(pen: Pen) -> None:
    pen.polygon([(0.36, 0.5), (0.64, 0.5), (0.7, 0.98), (0.3, 0.98)], pen.detail)
    pen.dome(0, 0.02, 1, 0.58, pen.body)
    for x, y, radius in ((0.28, 0.4, 0.08), (0.52, 0.22, 0.09), (0.74, 0.42, 0.07)):
        pen.disc(x, y, radius, pen.detail)


def draw_key(pen: Pen) -> None:
    pen.disc(0.25, 0.5, 0.25, pen.body)
    pen.disc(0.25, 0.5, 0.12, pen.clear)
    pen.box(0.46, 0.44, 1, 0.57, pen.body)
    pen.box(0.7, 0.5, 0.79, 0.76, pen.body)
    pen.box(0.89, 0.5, 1, 0.8, pen.body)


def draw_arrow(pen: Pen) -> None:
    pen.box(0, 0.38, 0.58, 0.62, pen.body)
    pen.polygon([(0.52, 0.12), (1, 0.5), (0.52, 0.88)], pen.body)


def draw_apple(pen: Pen) -> None:
    pen.oval(0.04, 0.26, 0.6, 0.98, pen.body)
    pen.oval(0.4, 0.26, 0.96, 0.98, pen.body)
    pen.polygon([(0.47, 0.36), (0.53, 0.36), (0.6, 0.04), (0.52, 0.04)], pen.detail)
    pen.oval(0.56, 0.02, 0.92, 0.2, pen.detail)


def draw_snowman(pen: Pen) -> None:
    pen.disc(0.5, 0.73, 0.27, pen.body)
    pen.disc(0.5, 0.36, 0.19, pen.body)
    pen.box(0.24, 0.18, 0.76, 0.25, pen.detail)
    pen.box(0.35, 0, 0.65, 0.2, pen.detail)
    for y in (0.6, 0.73, 0.86):
        pen.disc(0.5, y, 0.04, pen.detail)


def draw_butterfly(pen: Pen) -> None:
    for side in (0.0, 1.0):
        pen.polygon([(0.5, 0.5), (abs(side - 0.02), 0.08), (abs(side - 0.1), 0.52)], pen.body)
        x = abs(side - 0.26)
        pen.disc(x, 0.26, 0.22, pen.body)
        pen.disc(abs(side - 0.3), 0.72, 0.19, pen.body)
        pen.disc(x, 0.27, 0.09, pen.detail)
    pen.polygon([(0.3, 0.36), (0.7, 0.36), (0.62, 0.64), (0.38, 0.64)], pen.body)
    pen.oval(0.44, 0.16, 0.56, 0.9, pen.detail)


def draw_bottle(pen: Pen) -> None:
    pen.box(0.42, 0, 0.58, 0.12, pen.detail)
    pen.box(0.42, 0.12, 0.58, 0.36, pen.body)
    pen.dome(0.3, 0.24, 0.7, 0.46, pen.body)
    pen.box(0.3, 0.45, 0.7, 1, pen.body)
    pen.box(0.3, 0.58, 0.7, 0.82, pen.detail)


KINDS: dict[str, Callable[[Pen], None]] = {
    "circle": draw_circle,
    "square": draw_square,
    "triangle": draw_triangle,
    "star": draw_star,
    "heart": draw_heart,
    "moon": draw_moon,
    "sun": draw_sun,
    "cloud": draw_cloud,
    "tree": draw_tree,
    "house": draw_house,
    "boat": draw_boat,
    "car": draw_car,
    "fish": draw_fish,
    "flower": draw_flower,
    "cat": draw_cat,
    "cup": draw_cup,
    "umbrella": draw_umbrella,
    "mushroom": draw_mushroom,
    "key": draw_key,
    "arrow": draw_arrow,
    "apple": draw_apple,
    "snowman": draw_snowman,
    "butterfly": draw_butterfly,
    "bottle": draw_bottle,
}
