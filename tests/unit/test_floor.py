"""The floor of `captiond bench`: the cost of BLIP, counted from its shape."""

import pytest

from captiond.bench.floor import BatchWork, Rates, floor_seconds
from captiond.captioners.arithmetic import Arithmetic, CrossAttentionCost
from captiond.captioners.blip.cost import BlipShape, arithmetic

BASE = BlipShape(
    side=384,
    patch=16,
    vision_width=768,
    vision_inner=3072,
    vision_layers=12,
    text_width=768,
    text_inner=3072,
    text_layers=12,
    text_heads=12,
    feature_width=768,
    vocabulary=30524,
)


def test_blip_base_at_384() -> None:
    found = arithmetic(BASE)
    assert found.vision / 1e9 == pytest.approx(111, rel=0.01)
    assert found.token / 1e9 == pytest.approx(0.246, rel=0.01)
    assert found.weights / 1e6 == pytest.approx(123, rel=0.01)
    projected, absorbed = found.cross
    assert projected.image / 1e9 == pytest.approx(16.3, rel=0.01)
    assert projected.token == 2 * projected.keys == 2 * 12 * 2 * 577 * 768
    assert (absorbed.image, absorbed.keys) == (0, 577 * 768)
    assert absorbed.weights == 12 * 2 * 768 * 768
    assert absorbed.token / 1e9 == pytest.approx(0.284, rel=0.01)


def test_the_shape_comes_from_a_config() -> None:
    vision = {"image_size": 384, "patch_size": 16, "num_hidden_layers": 12}
    text = {"num_hidden_layers": 12, "num_attention_heads": 12}
    text |= {"encoder_hidden_size": 768, "vocab_size": 30524}
    widths = {"hidden_size": 768, "intermediate_size": 3072}
    assert BlipShape.of({"vision_config": vision | widths, "text_config": text | widths}) == BASE


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (
            BatchWork(images=1, tokens=10, steps=10),
            1.1 + 10 * (0.5 + 0.01),
        ),  # bound by weights read
        (BatchWork(images=100, tokens=1000, steps=10), 110 + 1000 * 0.07),  # by arithmetic
    ],
)
def test_token_steps_are_bound_by_what_is_slower(work: BatchWork, seconds: float) -> None:
    cross = CrossAttentionCost(image=10, token=2, weights=10, keys=1)
    model = Arithmetic(vision=100, token=5, weights=40, cross=(cross,))
    rates = Rates(flop=100, bytes=200)
    assert floor_seconds(model, rates, work, number_bytes=2) == pytest.approx(seconds)


def test_the_floor_is_that_of_the_quicker_way() -> None:
    ways = (
        CrossAttentionCost(image=20, token=1, weights=0, keys=0),
        CrossAttentionCost(0, token=3, weights=0, keys=0),
    )
    model = Arithmetic(vision=100, token=0, weights=0, cross=ways)
    rates = Rates(flop=1, bytes=1)
    assert floor_seconds(model, rates, BatchWork(1, 5, 5), 4) == 100 + 5 * 3
    assert floor_seconds(model, rates, BatchWork(1, 50, 50), 4) == 120 + 50
