"""The captions of scenes: relations, order, articles, and the scenes that are refused."""

from itertools import pairwise
from random import Random

import pytest

from tools.scenes.sample import sample_scene
from tools.scenes.scene import (
    HUES,
    LOOSE,
    NOUNS,
    STRICT,
    AmbiguousSceneError,
    Scene,
    Thing,
    caption,
    is_inside,
    level_left,
    plumb_above,
    readings,
    vocabulary,
)

BOAT = Thing("boat", "red", 0.25, 0.5, 0.3)
SUN = Thing("sun", "yellow", 0.75, 0.5, 0.3)
RING = Thing("circle", "blue", 0.5, 0.5, 0.8)
STAR = Thing("star", "orange", 0.5, 0.5, 0.4)


def at(thing: Thing, x: float, y: float, side: float = 0.28) -> Thing:
    return Thing(thing.kind, thing.colour, x, y, side)


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        ((BOAT,), "a red boat"),
        ((STAR,), "an orange star"),
        ((BOAT, SUN), "a red boat to the left of a yellow sun"),
        ((at(SUN, 0.5, 0.2), at(BOAT, 0.5, 0.8)), "a yellow sun above a red boat"),
        ((RING, STAR), "an orange star inside a blue circle"),
        (
            (at(BOAT, 0.18, 0.5), at(SUN, 0.5, 0.5), at(STAR, 0.82, 0.5)),
            "a red boat, a yellow sun and an orange star from left to right",
        ),
        (
            (at(BOAT, 0.5, 0.18), at(SUN, 0.5, 0.5), at(STAR, 0.5, 0.82)),
            "a red boat, a yellow sun and an orange star from top to bottom",
        ),
        (
            (at(BOAT, 0.5, 0.25, 0.4), at(SUN, 0.25, 0.75, 0.4), at(STAR, 0.75, 0.75, 0.4)),
            "a red boat above a yellow sun and an orange star",
        ),
        (
            (at(BOAT, 0.5, 0.75, 0.4), at(SUN, 0.25, 0.25, 0.4), at(STAR, 0.75, 0.25, 0.4)),
            "a yellow sun and an orange star above a red boat",
        ),
        (
            (at(BOAT, 0.25, 0.5, 0.4), at(SUN, 0.75, 0.25, 0.4), at(STAR, 0.75, 0.75, 0.4)),
            "a red boat to the left of a yellow sun and an orange star",
        ),
        (
            (at(BOAT, 0.75, 0.5, 0.4), at(SUN, 0.25, 0.25, 0.4), at(STAR, 0.25, 0.75, 0.4)),
            "a yellow sun and an orange star to the left of a red boat",
        ),
        (
            (at(RING, 0.3, 0.5, 0.5), at(STAR, 0.3, 0.5, 0.2), at(BOAT, 0.78, 0.5)),
            "an orange star inside a blue circle to the left of a red boat",
        ),
        (
            (at(RING, 0.5, 0.7, 0.5), at(STAR, 0.5, 0.7, 0.2), at(BOAT, 0.5, 0.2)),
            "a red boat above an orange star inside a blue circle",
        ),
    ],
)
def test_a_scene_has_its_caption(things: tuple[Thing, ...], expected: str) -> None:
    assert caption(Scene(things)) == expected


def test_the_order_of_the_things_changes_nothing() -> None:
    assert caption(Scene((BOAT, SUN))) == caption(Scene((SUN, BOAT)))


@pytest.mark.parametrize(
    "things",
    [
        (at(BOAT, 0.2, 0.2), at(SUN, 0.7, 0.7)),  # as far to the side as above
        (at(BOAT, 0.4, 0.5), at(SUN, 0.5, 0.5)),  # the things overlap
        (
            at(BOAT, 0.2, 0.2),
            at(SUN, 0.2, 0.8),
            at(STAR, 0.8, 0.8),
        ),  # the three things form a corner
    ],
)
def test_an_unclear_scene_is_refused(things: tuple[Thing, ...]) -> None:
    with pytest.raises(AmbiguousSceneError):
        caption(Scene(things))


def test_only_a_plain_shape_contains_things() -> None:
    assert is_inside(STAR, RING)
    assert not is_inside(STAR, Thing("tree", "blue", 0.5, 0.5, 0.8))
    assert not is_inside(at(STAR, 0.8, 0.5), RING)
    assert not is_inside(RING, STAR)


def test_relations_have_one_direction() -> None:
    assert level_left(BOAT, SUN, STRICT)
    assert not level_left(SUN, BOAT, LOOSE)
    assert not plumb_above(BOAT, SUN, LOOSE)
    assert not plumb_above(SUN, BOAT, LOOSE)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sampled_scenes_have_one_reading(count: int) -> None:
    rng = Random(11)
    for _ in range(300):
        scene = sample_scene(rng, count)
        assert len(scene.things) == count
        assert set(readings(scene, STRICT)) == set(readings(scene, LOOSE)) == {caption(scene)}


def test_sampled_captions_use_every_relation_and_only_the_vocabulary() -> None:
    rng = Random(12)
    captions = [caption(sample_scene(rng)) for _ in range(3000)]
    words = {word for text in captions for word in text.replace(",", " ,").split()}
    assert words == set(vocabulary())


def test_articles_agree() -> None:
    rng = Random(13)
    for _ in range(500):
        words = caption(sample_scene(rng)).split()
        for article, colour in pairwise(words):
            if article in ("a", "an"):
                assert colour in HUES
                assert article == ("an" if colour == "orange" else "a")


def test_there_are_at_least_twenty_kinds_and_ten_colours() -> None:
    assert len(NOUNS) >= 20
    assert len(HUES) == 10
