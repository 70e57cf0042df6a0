"""The layers of BLIP's vision transformer and text models, made of a checkpoint's weights."""

from dataclasses import dataclass

from captiond.captioners.blip.cross import Block
from captiond.captioners.linear import Linear, MakeLinear, linear_of
from captiond.captioners.norm import MakeNorm, Norm
from captiond.captioners.quantization import balance, normalized_dtype


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(gelu(up(x)))"""

    up: Linear  # with GELU
    down: Linear


@dataclass(frozen=True, slots=True)
class VisionLayer:
    """A layer of the vision transformer: normalized before attention and before the MLP."""

    attention_norm: Norm
    qkv: Linear
    attention_output: Linear
    mlp_norm: Norm
    mlp: Mlp


@dataclass(frozen=True, slots=True)
class TextLayer:
    """A layer of the text decoder: normalized after attention and after the MLP, as in BERT."""

    qkv: Linear
    attention_output: Linear
    attention_norm: Norm
    cross_query: Linear
    cross_output: Linear
    cross_norm: Norm
    mlp: Mlp
    mlp_norm: Norm


def vision_layer(layer: Block, make: MakeLinear, norm: MakeNorm) -> VisionLayer:
    balance(make, layer.layer_norm1, layer.self_attn.qkv)
    balance(make, layer.layer_norm2, layer.mlp.fc1)
    dtype = normalized_dtype(make)
    return VisionLayer(
        attention_norm=norm(layer.layer_norm1, dtype),
        qkv=linear_of(make, layer.self_attn.qkv, inputs="normalized"),
        attention_output=linear_of(make, layer.self_attn.projection),
        mlp_norm=norm(layer.layer_norm2, dtype),
        mlp=Mlp(
            up=linear_of(make, layer.mlp.fc1, activation="gelu", inputs="normalized"),
            down=linear_of(make, layer.mlp.fc2, inputs="gelu"),
        ),
    )


def text_layer(layer: Block, make: MakeLinear, norm: MakeNorm) -> TextLayer:
    self_attention, cross_attention = layer.attention, layer.crossattention
    projections = self_attention.self
    return TextLayer(
        qkv=linear_of(make, projections.query, projections.key, projections.value),
        attention_output=linear_of(make, self_attention.output.dense),
        attention_norm=norm(self_attention.output.LayerNorm),
        cross_query=linear_of(make, cross_attention.self.query),
        cross_output=linear_of(make, cross_attention.output.dense),
        cross_norm=norm(cross_attention.output.LayerNorm),
        mlp=Mlp(
            up=linear_of(make, layer.intermediate.dense, activation="gelu"),
            down=linear_of(make, layer.output.dense, inputs="gelu"),
        ),
        mlp_norm=norm(layer.output.LayerNorm),
    )
