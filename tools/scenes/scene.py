"""Scenes of one to three things, each with exactly one caption.

The caption follows from the places of the things. A scene is ambiguous, and is never drawn, if two
captions fit it or if a relation is not clear by a margin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from tools.scenes.kinds import KINDS
from tools.scenes.palette import COLOURS

# The share of a container's half side that is plain, so that a thing fits inside with its corners.
PLAIN = {"circle": 0.66, "square": 0.84}
NOUNS = (*KINDS,)
HUES = (*COLOURS,)


class AmbiguousSceneError(ValueError):
    """The scene has no caption, or more than one."""


@dataclass(frozen=True)
class Thing:
    """A thing of one kind and colour.

    The centre (`x`, `y`) and the side are fractions of the picture's side. `y` points down.
    """

    kind: str
    colour: str
    x: float
    y: float
    side: float

    @property
    def half(self) -> float:
        """Half of the side."""
        return self.side / 2

    @property
    def noun_phrase(self) -> str:
        """The thing with its colour and article: "an orange star"."""
        article = "an" if self.colour[0] in "aeiou" else "a"
        return f"{article} {self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """One to three things. A container comes before the thing inside it."""

    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Margin:
    """The margin by which a relation of two things must be clear.

    `gap` is the minimum distance between their boxes along the axis. The distance of their centres
    along the axis must be at least `ratio` times the distance across it.
    """

    gap: float
    ratio: float


STRICT = Margin(gap=0.02, ratio=1.6)
LOOSE = Margin(gap=-0.06, ratio=1.1)


def is_inside(thing: Thing, container: Thing) -> bool:
    """Return whether the whole of `thing` lies on the plain middle of a circle or square."""
    offset = max(abs(thing.x - container.x), abs(thing.y - container.y))
    return offset + thing.half <= container.half * PLAIN.get(container.kind, 0)


def left_of(one: Thing, other: Thing, margin: Margin) -> bool:
    """Return whether `one` ends before `other` begins, from left to right."""
    return one.x + one.half + margin.gap <= other.x - other.half


def above(one: Thing, other: Thing, margin: Margin) -> bool:
    """Return whether `one` ends before `other` begins, from top to bottom."""
    return one.y + one.half + margin.gap <= other.y - other.half


def level_left(one: Thing, other: Thing, margin: Margin) -> bool:
    """Return whether `one` is left of `other`, at about the same height."""
    far = other.x - one.x >= margin.ratio * abs(other.y - one.y)
    return far and left_of(one, other, margin)


def plumb_above(one: Thing, other: Thing, margin: Margin) -> bool:
    """Return whether `one` is above `other`, and not beside it."""
    far = other.y - one.y >= margin.ratio * abs(other.x - one.x)
    return far and above(one, other, margin)


def caption(scene: Scene) -> str:
    """Return the caption of a scene, in lower case and without a full stop.

    Raises:
        AmbiguousSceneError: The strict and the loose margin do not give the same single caption.
    """
    strict, loose = set(readings(scene, STRICT)), set(readings(scene, LOOSE))
    if len(loose) != 1 or strict != loose:
        raise AmbiguousSceneError(f"{scene} reads as {sorted(strict)} or {sorted(loose)}")
    return loose.pop()


def readings(scene: Scene, margin: Margin) -> Iterator[str]:
    """Yield every caption that fits the scene if its relations are clear by `margin`."""
    contained = [(b, a) for a, b in permutations(scene.things, 2) if is_inside(b, a)]
    if contained:
        yield from _read_contained(scene, contained, margin)
    elif len(scene.things) == 1:
        yield scene.things[0].noun_phrase
    elif len(scene.things) == 2:
        yield from _read_pair(_phrases(scene), margin)
    else:
        for one, two, three in permutations(scene.things):
            yield from _read_three(one, two, three, margin)


def _phrases(scene: Scene) -> list[tuple[Thing, str]]:
    return [(thing, thing.noun_phrase) for thing in scene.things]


def _read_contained(
    scene: Scene, contained: list[tuple[Thing, Thing]], margin: Margin
) -> Iterator[str]:
    if len(contained) > 1:
        return
    content, container = contained[0]
    phrase = f"{content.noun_phrase} inside {container.noun_phrase}"
    others = [pair for pair in _phrases(scene) if pair[0] not in contained[0]]
    if not others:
        yield phrase
    else:
        yield from _read_pair([(container, phrase), *others], margin)


def _read_pair(pair: list[tuple[Thing, str]], margin: Margin) -> Iterator[str]:
    for (one, one_phrase), (other, other_phrase) in permutations(pair, 2):
        if level_left(one, other, margin):
            yield f"{one_phrase} to the left of {other_phrase}"
        if plumb_above(one, other, margin):
            yield f"{one_phrase} above {other_phrase}"


def _read_three(one: Thing, two: Thing, three: Thing, margin: Margin) -> Iterator[str]:
    """Yield the captions that name the three things in exactly this order."""
    first, second, third = one.noun_phrase, two.noun_phrase, three.noun_phrase
    if level_left(one, two, margin) and level_left(two, three, margin):
        yield f"{first}, {second} and {third} from left to right"
    if plumb_above(one, two, margin) and plumb_above(two, three, margin):
        yield f"{first}, {second} and {third} from top to bottom"
    if level_left(two, three, margin) and above(one, two, margin) and above(one, three, margin):
        yield f"{first} above {second} and {third}"
    if level_left(one, two, margin) and above(one, three, margin) and above(two, three, margin):
        yield f"{first} and {second} above {third}"
    if plumb_above(two, three, margin) and _left_of_both(one, two, three, margin):
        yield f"{first} to the left of {second} and {third}"
    if plumb_above(one, two, margin) and _left_of_one(one, two, three, margin):
        yield f"{first} and {second} to the left of {third}"


def _left_of_both(one: Thing, two: Thing, three: Thing, margin: Margin) -> bool:
    return left_of(one, two, margin) and left_of(one, three, margin)


def _left_of_one(one: Thing, two: Thing, three: Thing, margin: Margin) -> bool:
    return left_of(one, three, margin) and left_of(two, three, margin)


def vocabulary() -> list[str]:
    """Return every word and punctuation mark that a caption may contain, sorted."""
    joints = "a an , and above inside to the left of from right top bottom"
    return sorted({*joints.split(), *NOUNS, *HUES})
