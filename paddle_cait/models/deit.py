"""DeiT (Touvron et al., https://arxiv.org/abs/2012.12877) and DeiT III (https://arxiv.org/abs/2204.07118).

Official source: facebookresearch/deit, models.py and models_v2.py. Parameter names are its names.

DeiT is a ViT; its distilled form has a second token and head that learn from a teacher. DeiT III scales the residual
branches per channel and gives the class token no entry in the position table.
"""

from __future__ import annotations

import functools
from typing import Any

import paddle
from paddle import Tensor, nn

from paddle_cait.layers import init
from paddle_cait.layers.attention import Attention
from paddle_cait.models.vit import Block, VisionTransformer


class DeiT(VisionTransformer):
    """[B, in_chans, H, W] float32 -> logits [B, num_classes]; ``num_classes=0`` gives features [B, embed_dim].

    ``distilled``: in training the result is the pair (class head, distillation head), in evaluation their mean.
    ``head_dist=False`` leaves out the second head: logits are then the class head's alone, as in files that were
    fine-tuned without a teacher (Hugging Face's DeiTForImageClassification). ``arch``: the other arguments of
    :class:`VisionTransformer`, with ``resample`` "deit".
    """

    classifier = ("head", "head_dist")

    def __init__(self, distilled: bool = False, head_dist: bool = True, **arch: Any) -> None:
        super().__init__(prefix=(2, 2) if distilled else (1, 1), **{"resample": "deit", **arch})
        self.dist_token = self._token(1) if distilled else None
        self.class_tokens = 2 if distilled else 1
        self.head_dist: nn.Layer | None = None
        if distilled and head_dist:
            self.head_dist = init.linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """float32 [B, in_chans, H, W], normalised -> float32 logits [B, num_classes], or features [B, embed_dim].

        With a distillation head, in training, a pair of them: by the class token and by the distillation token.
        """
        if self.head_dist is None:
            return VisionTransformer.forward(self, x)  # Paddle 2.6's to_static knows no super()
        tokens = self.forward_features(x)
        logits, distilled = self.head(tokens[:, 0]), self.head_dist(tokens[:, 1])
        return (logits, distilled) if self.training else (logits + distilled) / 2

    def forward_features(self, x: Tensor) -> Tensor:
        """The normalised class token [B, C]; with a distillation head both tokens, [B, 2, C]."""
        if self.head_dist is None:
            return VisionTransformer.forward_features(self, x)
        return self.norm(self._blocks(x)[:, :2])

    def _prefix(self, patches: Tensor) -> list[Tensor]:
        tokens = VisionTransformer._prefix(self, patches)
        return tokens if self.dist_token is None else [*tokens, self.dist_token.expand_as(patches[:, :1])]


class ScaledBlock(Block):
    """A ViT block whose branches are scaled per channel by ``gamma_1`` and ``gamma_2`` (LayerScale), [B, T, C]."""

    def __init__(self, attn: Attention, mlp: nn.Layer, dim: int, drop_path: float, init_values: float) -> None:
        super().__init__(attn, mlp, dim, drop_path)
        self.gamma_1 = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))
        self.gamma_2 = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x)))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))


class DeiT3(VisionTransformer):
    """[B, in_chans, H, W] float32 -> logits [B, num_classes]; ``num_classes=0`` gives features [B, embed_dim].

    ``init_values``: initial LayerScale (the authors' 1e-4). ``arch``: the other arguments of
    :class:`VisionTransformer`, with ``resample`` "deit"; ``drop_path_rate`` is the same in every block.
    """

    classifier = ("head",)

    def __init__(self, init_values: float = 1e-4, **arch: Any) -> None:
        block = functools.partial(ScaledBlock, init_values=init_values)
        super().__init__(block=block, prefix=(1, 0), **{"resample": "deit", **arch})

    @staticmethod
    def drop_path_rates(rate: float, depth: int) -> list[float]:
        """Of each block: ``rate``."""
        return [rate] * depth

    def add_positions(self, patches: Tensor) -> Tensor:
        """Patches [B, N, C] -> tokens [B, T, C]; the class token has no position."""
        patches = self.pos_drop(patches + self.pos_embed)
        return paddle.concat([*self._prefix(patches), patches], axis=1)
