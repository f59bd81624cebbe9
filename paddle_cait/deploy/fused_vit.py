"""The ViT line for inference: ViT and its hybrids, DeiT, DeiT III, DINO, DINOv2.

Only the class token (and DeiT's distillation token) leaves the last block, so that block asks with these alone: no keys
or values of all tokens, no MLP over patches. Of a model with 12 blocks that saves a twelfth of the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_cait.deploy.fold import Affine, array
from paddle_cait.deploy.fused_layers import Attention, FewQueries, Mlp, Norm, SwiGlu, copy_of, parameter
from paddle_cait.deploy.pixels import Patches
from paddle_cait.errors import PaddleCaitError
from paddle_cait.models.deit import DeiT, ScaledBlock
from paddle_cait.models.dino import DinoV2Block
from paddle_cait.models.vit import Block, VisionTransformer


class FusedBlock(nn.Layer):
    """[B, T, C] -> [B, T, C]."""

    def __init__(self, block: Block, tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(block.norm1), Norm(block.norm2)
        self.attn = Attention(*_projections(block), block.attn.num_heads, tokens)
        self.mlp = _mlp(block)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LastBlock(nn.Layer):
    """[B, T, C] -> the first tokens [B, P, C] and their map [B, H, P, T]."""

    def __init__(self, block: Block, tokens: int, queries: int) -> None:
        super().__init__()
        self.queries = queries
        self.norm1, self.norm2 = Norm(block.norm1), Norm(block.norm2)
        self.attn = FewQueries(*_projections(block), block.attn.num_heads, tokens, queries)
        self.mlp = _mlp(block)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        update, maps = self.attn(self.norm1(x))
        x = x[:, : self.queries] + update
        return x + self.mlp(self.norm2(x)), maps


class FusedViT(nn.Layer):
    """Images -> (logits [B, classes], features [B, C], attention [B, H, P, T] of the last block)."""

    def __init__(self, model: VisionTransformer, pixels: Any) -> None:
        super().__init__()
        patches = model.patch_embed.num_patches
        tokens = model.num_prefix_tokens + patches
        with paddle.no_grad():
            table = array(model.add_positions(paddle.zeros([1, patches, model.num_features])))
        self.patches = Patches(model.patch_embed, pixels)
        self.prefix = parameter(self, table[:, : model.num_prefix_tokens])
        self.table = parameter(self, table[:, model.num_prefix_tokens :] + self.patches.shift)
        self.distilled = isinstance(model, DeiT) and model.head_dist is not None
        self.blocks = nn.LayerList([FusedBlock(block, tokens) for block in model.blocks[:-1]])
        self.last = LastBlock(model.blocks[-1], tokens, 2 if self.distilled else 1)
        self.norm, self.pre_logits, self.head = (copy_of(part) for part in (model.norm, model.pre_logits, model.head))
        self.head_dist = copy_of(model.head_dist) if self.distilled else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches = self.patches(x) + self.table
        x = paddle.concat([self.prefix.expand([patches.shape[0], -1, -1]), patches], axis=1)
        for block in self.blocks:
            x = block(x)
        x, maps = self.last(x)
        features = self.norm(x)
        if self.head_dist is not None:
            return (self.head(features[:, 0]) + self.head_dist(features[:, 1])) / 2, features, maps
        features = features[:, 0]
        return self.head(self.pre_logits(features)), features, maps


def _projections(block: Block) -> tuple[Affine, Affine, Affine, Affine]:
    """Query, key and value after the norm, projection with LayerScale; the query scaled."""
    attn, gamma = block.attn, _gammas(block)[0]
    qkv = Affine.of(attn.qkv).after(block.norm1)
    dim = len(qkv.bias) // 3
    q, k, v = (qkv.columns(i * dim, (i + 1) * dim) for i in range(3))
    return q.scaled(attn.scale), k, v, Affine.of(attn.proj).scaled(gamma)


def _mlp(block: Block) -> nn.Layer:
    gated = hasattr(block.mlp, "w12")
    return (SwiGlu if gated else Mlp)(block.mlp, block.norm2, _gammas(block)[1])


def _gammas(block: Block) -> tuple[np.ndarray | float, np.ndarray | float]:
    if type(block) is ScaledBlock:
        return array(block.gamma_1), array(block.gamma_2)
    if type(block) is DinoV2Block:
        return array(block.ls1.gamma), array(block.ls2.gamma)
    if type(block) is not Block:  # a descendant may compute something else
        raise PaddleCaitError(f"{type(block).__name__} cannot be fused: expected a block of ViT, DeiT III or DINOv2")
    return 1.0, 1.0
