"""GCViT for inference.

All blocks of a level cut the map into the same windows, so here it is cut once a level and put together once: norms and
MLPs work token by token and do not mind the order. Padding (where a side is no multiple of its windows) travels along;
no token sees it and the end of the level cuts it off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.deploy.fold import Affine, array
from paddle_cait.deploy.fused_layers import Linear, Mlp, Norm, copy_of, parameter
from paddle_cait.deploy.pixels import normalised
from paddle_cait.models.gcvit import Block, GCViT, Level, WindowAttention, Windows


class FusedWindowAttention(nn.Layer):
    """[B*M, T, C] -> [B*M, T, C] and the maps [B*M, H, T, T]. ``q_global`` is [B*M, H, T, D]."""

    def __init__(self, attn: WindowAttention, norm: nn.LayerNorm, gamma: np.ndarray | float, windows: Windows) -> None:
        super().__init__()
        self.heads, self.shared, self.windows = attn.num_heads, attn.shared, windows.count
        self.tokens = windows.window[0] * windows.window[1]
        qkv, proj = Affine.of(attn.qkv).after(norm), Affine.of(attn.proj).scaled(gamma)
        dim = self.dim = len(proj.bias)
        *q, k, v = (qkv.columns(start, start + dim) for start in range(0, len(qkv.bias), dim))
        self.q = Linear(q[0].scaled(attn.scale)) if q else None
        self.k = Linear(k.without_bias().scaled(attn.scale if attn.shared else 1.0))
        self.v = Linear(v.without_bias())
        self.proj = Linear(proj.plus(v.bias @ proj.weight))
        table = array(attn.relative_position_bias_table)[windows.index.numpy()]
        bias = table.reshape(self.tokens, self.tokens, self.heads).transpose(2, 0, 1)
        self.masked = windows.mask is not None
        self.bias = parameter(self, bias + array(windows.mask) if self.masked else bias)

    def forward(self, x: Tensor, q_global: Tensor) -> tuple[Tensor, Tensor]:
        q = q_global if self.q is None else self._split(self.q(x))
        k, v = self._split(self.k(x)), self._split(self.v(x))
        maps = self.attention(q, k)
        x = paddle.matmul(maps, v).transpose([0, 2, 1, 3]).reshape([-1, self.tokens, self.dim])
        return self.proj(x), maps

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """The maps [B*M, H, T, T]."""
        scores = paddle.matmul(q, k, transpose_y=True)
        if self.masked:
            shape = [self.heads, self.tokens, self.tokens]
            scores = (scores.reshape([-1, self.windows, *shape]) + self.bias).reshape([-1, *shape])
        else:
            scores = scores + self.bias
        return F.softmax(scores, axis=-1)

    def _split(self, x: Tensor) -> Tensor:
        """[B*M, T, C] -> [B*M, H, T, D]."""
        return x.reshape([-1, self.tokens, self.heads, self.dim // self.heads]).transpose([0, 2, 1, 3])


class FusedBlock(nn.Layer):
    """[B*M, T, C] -> the same, and the maps [B*M, H, T, T]."""

    def __init__(self, block: Block, windows: Windows) -> None:
        super().__init__()
        gamma1, gamma2 = (array(block.gamma1), array(block.gamma2)) if block.scaled else (1.0, 1.0)
        self.norm1, self.norm2 = Norm(block.norm1), Norm(block.norm2)
        self.attn = FusedWindowAttention(block.attn, block.norm1, gamma1, windows)
        self.mlp = Mlp(block.mlp, block.norm2, gamma2)

    def forward(self, x: Tensor, q_global: Tensor) -> tuple[Tensor, Tensor]:
        update, maps = self.attn(self.norm1(x), q_global)
        x = x + update
        return x + self.mlp(self.norm2(x)), maps


class FusedLevel(nn.Layer):
    """A map [B, h, w, C] -> the same, and the maps of the last block."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.windows = copy_of(level.windows)
        self.heads = level.blocks[0].attn.num_heads
        self.tokens = self.windows.window[0] * self.windows.window[1]
        self.q_global_gen = copy_of(level.q_global_gen) if any(block.attn.shared for block in level.blocks) else None
        self.blocks = nn.LayerList([FusedBlock(block, level.windows) for block in level.blocks])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q_global = x if self.q_global_gen is None else self._repeat(self.q_global_gen(x))
        x = self.windows.split(x)
        for block in self.blocks:
            x, maps = block(x, q_global)
        return self.windows.join(x), maps

    def _repeat(self, q: Tensor) -> Tensor:
        """[B, T, C] -> [B*M, H, T, D]: an image's query for each of its own windows."""
        depth = q.shape[-1] // self.heads
        q = q.reshape([-1, self.tokens, self.heads, depth]).transpose([0, 2, 1, 3])
        if self.windows.count == 1:
            return q
        q = q.unsqueeze(1).expand([-1, self.windows.count, -1, -1, -1])
        return q.reshape([-1, self.heads, self.tokens, depth])


class FusedGCViT(nn.Layer):
    """Images -> (logits [B, classes], features [B, C], attention [B, H, T, T] of the last block over the last map)."""

    def __init__(self, model: GCViT, pixels: Any) -> None:
        super().__init__()
        self.before = normalised(pixels)
        self.patch_embed = copy_of(model.patch_embed)
        self.levels = nn.LayerList([FusedLevel(level) for level in model.levels])
        self.downsample = nn.LayerList([copy_of(level.downsample) for level in model.levels[:-1]])
        self.norm, self.head = copy_of(model.norm), copy_of(model.head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.patch_embed(self.before(x))
        for i, level in enumerate(self.levels):
            x, maps = level(x)
            if i < len(self.downsample):
                x = self.downsample[i](x)
        features = self.norm(x).mean([1, 2])
        return self.head(features), features, maps
