"""The arithmetic behind `captiond bench`: BLIP's work, counted from its shape."""

import pytest

from captiond.bench.floor import Arithmetic, Rates, Shape, Work, arithmetic, floor_seconds

BASE = Shape(
    side=384,
    patch=16,
    vision_width=768,
    vision_inner=3072,
    vision_layers=12,
    text_width=768,
    text_inner=3072,
    text_layers=12,
    seen_width=768,
    vocabulary=30524,
)


def test_blip_base_at_384() -> None:
    found = arithmetic(BASE)
    assert found.vision / 1e9 == pytest.approx(111, rel=0.01)
    assert found.cross / 1e9 == pytest.approx(16.3, rel=0.01)
    assert found.token / 1e9 == pytest.approx(0.27, rel=0.01)
    assert found.weights / 1e6 == pytest.approx(123, rel=0.01)
    assert found.keys == 12 * 2 * 577 * 768


def test_the_shape_comes_from_a_config() -> None:
    vision = {"image_size": 384, "patch_size": 16, "num_hidden_layers": 12}
    text = {"num_hidden_layers": 12, "encoder_hidden_size": 768, "vocab_size": 30524}
    widths = {"hidden_size": 768, "intermediate_size": 3072}
    assert Shape.of({"vision_config": vision | widths, "text_config": text | widths}) == BASE


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Work(images=1, tokens=10, steps=10), 1.1 + 10 * (0.5 + 0.01)),  # bound by weights read
        (Work(images=100, tokens=1000, steps=10), 110 + 1000 * 0.07),  # by arithmetic
    ],
)
def test_token_steps_are_bound_by_what_is_slower(work: Work, seconds: float) -> None:
    model = Arithmetic(vision=100, cross=10, token=7, weights=50, keys=1)
    rates = Rates(flop=100, bytes=200)
    assert floor_seconds(model, rates, work, number_bytes=2) == pytest.approx(seconds)
