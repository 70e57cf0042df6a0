"""Random scenes: the things in them and their places."""

from random import Random

from tools.scenes.scene import HUES, NOUNS, PLAIN, AmbiguousSceneError, Scene, Thing, caption

SHARES = {1: 0.2, 2: 0.35, 3: 0.45}  # the share of scenes with this number of things
_EDGE = 0.02
_TOGETHER = {"left": 0.30, "above": 0.30, "inside": 0.40}
_THREE = {"row": 0.2, "column": 0.2, "split": 0.34, "contained": 0.26}

Place = tuple[float, float, float]  # x, y, side


def sample_scene(rng: Random, count: int | None = None) -> Scene:
    """Return a random scene with one clear caption.

    `count` is the number of things, from 1 to 3. By default it is random.
    """
    number = count or rng.choices(list(SHARES), list(SHARES.values()))[0]
    layout = {1: _one, 2: _two, 3: _three}[number]
    while True:
        scene = Scene(layout(rng))
        if _fits(scene) and _reads(scene):
            return scene


def _reads(scene: Scene) -> bool:
    try:
        caption(scene)
    except AmbiguousSceneError:
        return False
    return True


def _fits(scene: Scene) -> bool:
    low, high = _EDGE, 1 - _EDGE
    return all(
        low <= at - thing.half and at + thing.half <= high
        for thing in scene.things
        for at in (thing.x, thing.y)
    )


def _thing(rng: Random, place: Place) -> Thing:
    return Thing(rng.choice(NOUNS), rng.choice(HUES), *place)


def _one(rng: Random) -> tuple[Thing, ...]:
    side = rng.uniform(0.28, 0.9)
    reach = 0.5 - _EDGE - side / 2
    x, y = (0.5 + rng.uniform(-reach, reach) for _ in range(2))
    return (_thing(rng, (x, y, side)),)


def _two(rng: Random) -> tuple[Thing, ...]:
    layout = rng.choices(list(_TOGETHER), list(_TOGETHER.values()))[0]
    if layout == "inside":
        side = rng.uniform(0.6, 0.94)
        reach = 0.5 - _EDGE - side / 2
        x, y = (0.5 + rng.uniform(-reach, reach) for _ in range(2))
        return _container_with_content(rng, (x, y, side))
    places = [_in_slot(rng, slot, 2, 0.28, 0.46) for slot in range(2)]
    return _turned(rng, places, upright=layout == "above")


def _three(rng: Random) -> tuple[Thing, ...]:
    layout = rng.choices(list(_THREE), list(_THREE.values()))[0]
    upright = rng.random() < 0.5
    if layout == "contained":
        return _container_and_third(rng, upright)
    if layout == "split":
        return _turned(rng, _split(rng), upright)
    places = [_in_slot(rng, slot, 3, 0.25, 0.31) for slot in range(3)]
    return _turned(rng, places, upright=layout == "column")


def _turned(rng: Random, places: list[Place], upright: bool) -> tuple[Thing, ...]:
    """Return a random thing at each place. `upright` swaps x and y."""
    return tuple(_thing(rng, (y, x, s) if upright else (x, y, s)) for x, y, s in places)


def _in_slot(rng: Random, slot: int, slots: int, least: float, most: float) -> Place:
    """Return a random place in one of `slots` equal vertical strips of the picture."""
    side = rng.uniform(least, most)
    width = (1 - 2 * _EDGE) / slots
    slack = max(0.0, width - side) / 2
    x = _EDGE + (slot + 0.5) * width + rng.uniform(-slack, slack)
    return x, rng.uniform(_EDGE + side / 2, 1 - _EDGE - side / 2), side


def _split(rng: Random) -> list[Place]:
    """Return places for one thing in one half, and for two things in the other half.

    The two things are one above the other.
    """
    alone, *stacked = (rng.uniform(0.27, 0.44) for _ in range(3))
    near = 0.25 + rng.uniform(-0.03, 0.03)
    far = 0.75 + rng.uniform(-0.03, 0.03)
    if rng.random() < 0.5:
        near, far = far, near
    ys = (0.26 + rng.uniform(-0.03, 0.03), 0.74 + rng.uniform(-0.03, 0.03))
    pair = [(far + rng.uniform(-0.03, 0.03), y, s) for y, s in zip(ys, stacked, strict=True)]
    return [(near, 0.5 + rng.uniform(-0.15, 0.15), alone), *pair]


def _container_with_content(rng: Random, place: Place) -> tuple[Thing, ...]:
    """Return a container at `place`, and a thing of another colour inside it."""
    x, y, side = place
    kind = rng.choice(list(PLAIN))
    colour, other = rng.sample(HUES, 2)
    available = side * PLAIN[kind]
    inner = rng.uniform(0.78, 0.98) * min(available, 0.5)
    reach = (available - inner) / 2
    at_x, at_y = (at + rng.uniform(-reach, reach) for at in (x, y))
    content = Thing(rng.choice(NOUNS), other, at_x, at_y, inner)
    return Thing(kind, colour, x, y, side), content


def _container_and_third(rng: Random, upright: bool) -> tuple[Thing, ...]:
    """Return a container with its content, and a third thing to the left, right, above or below."""
    side = rng.uniform(0.46, 0.6)
    other = rng.uniform(0.27, min(0.44, 0.92 - side))
    spare = 1 - 2 * _EDGE - side - other
    gap = rng.uniform(0.02, spare)
    start = _EDGE + rng.uniform(0, spare - gap)
    along, beyond = start + side / 2, start + side + gap + other / 2
    if rng.random() < 0.5:
        along, beyond = 1 - along, 1 - beyond
    across, level = (rng.uniform(_EDGE + s / 2, 1 - _EDGE - s / 2) for s in (side, other))
    places: list[Place] = [(along, across, side), (beyond, level, other)]
    (x, y, s), third = [(b, a, s) if upright else (a, b, s) for a, b, s in places]
    return (*_container_with_content(rng, (x, y, s)), _thing(rng, third))
