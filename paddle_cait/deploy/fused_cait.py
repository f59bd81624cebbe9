"""CaiT for inference.

The heads' maps are mixed before and after the softmax, twice over [B, H, N, N] numbers: little arithmetic, much memory.
How to write it is the runtime's choice (``tools/bench.py --forms`` measures it):

- ``matmul``: one [H, H] matrix times [B, H, N*N]: Paddle Inference and onnxruntime;
- ``chain``: each mixed map as one chain of multiply, add, multiply, add (Horner's scheme over the heads), which
  OpenVINO compiles into a single pass over memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.deploy.fold import Affine, array, beside
from paddle_cait.deploy.fused_layers import FewQueries, Linear, Mlp, Norm, copy_of, parameter
from paddle_cait.deploy.pixels import Patches
from paddle_cait.models.cait import Block, CaiT, ClassBlock, TalkingHeadsAttention

FORMS = ("matmul", "chain")


@dataclass(frozen=True)
class TalkingHeads:
    """The folded parameters of talking-heads attention. What folds of plain attention folds here too, with one
    difference: rows of a mixed map sum to a constant of their head, not to 1, and that constant goes with the value's
    bias. ``before`` [H, H] mixes scores, ``after`` mixes maps and shifts them.
    """

    q: Affine
    k: Affine
    v: Affine
    before: np.ndarray
    after: Affine
    proj: Affine

    @classmethod
    def of(cls, attn: TalkingHeadsAttention, norm: nn.LayerNorm, gamma: np.ndarray, tokens: int) -> TalkingHeads:
        qkv, proj = Affine.of(attn.qkv).after(norm), Affine.of(attn.proj).scaled(gamma)
        dim = len(proj.bias)
        q, k, v = (qkv.columns(i * dim, (i + 1) * dim) for i in range(3))
        before, after = array(attn.proj_l.weight) * attn.scale, Affine.of(attn.proj_w)  # proj_l's bias cancels
        row_sums = after.weight.sum(0) + tokens * after.bias
        proj = proj.plus((v.bias * row_sums.repeat(dim // attn.num_heads)) @ proj.weight)
        return cls(q, k.without_bias(), v.without_bias(), before, after, proj)


class MatmulHeads(nn.Layer):
    """[B, N, C] -> [B, N, C], heads mixed by a [H, H] matrix."""

    def __init__(self, folded: TalkingHeads, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.dim = len(folded.before), tokens, len(folded.proj.bias)
        self.q, self.k, self.v, self.proj = map(Linear, (folded.q, folded.k, folded.v, folded.proj))
        self.before, self.after = parameter(self, folded.before.T), parameter(self, folded.after.weight.T)
        # A leading 1 in its shape would cost Paddle's dynamic graph a third of this layer's time.
        self.shift = parameter(self, folded.after.bias.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._split(self.q(x)), self._split(self.k(x)), self._split(self.v(x))
        x = paddle.matmul(self.attention(q, k), v)
        return self.proj(x.transpose([0, 2, 1, 3]).reshape([-1, self.tokens, self.dim]))

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """The maps [B, H, N, N]."""
        maps = F.softmax(self._mix(self.before, paddle.matmul(q, k, transpose_y=True)), axis=-1)
        return self._mix(self.after, maps) + self.shift

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, H, N, D]."""
        return x.reshape([-1, self.tokens, self.heads, self.dim // self.heads]).transpose([0, 2, 1, 3])

    def _mix(self, weight: Tensor, maps: Tensor) -> Tensor:
        flat = maps.reshape([-1, self.heads, self.tokens * self.tokens])
        return paddle.matmul(weight, flat).reshape([-1, self.heads, self.tokens, self.tokens])


class ChainHeads(nn.Layer):
    """[B, N, C] -> [B, N, C], heads mixed by chains; each head's maps are tensors of their own, so that a chain reads
    them where they are."""

    def __init__(self, folded: TalkingHeads, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.dim = len(folded.before), tokens, len(folded.proj.bias)
        self.qkv, self.proj = Linear(beside(folded.q, folded.k, folded.v)), Linear(folded.proj)
        self.before, self.after, self.shift = folded.before, folded.after.weight, folded.after.bias

    def forward(self, x: Tensor) -> Tensor:
        heads = self.heads
        parts = self.qkv(x).reshape([-1, self.tokens, 3 * heads, self.dim // heads]).transpose([2, 0, 1, 3])
        parts = paddle.split(parts, 3 * heads, axis=0)  # [1, B, N, D] each: views of one array
        q, k, v = parts[:heads], parts[heads : 2 * heads], parts[2 * heads :]
        maps = self.attention(q, k)
        x = paddle.concat([paddle.matmul(maps[h], v[h]) for h in range(heads)], axis=0)  # [H, B, N, D]
        return self.proj(x.transpose([1, 2, 0, 3]).reshape([-1, self.tokens, self.dim]))

    def attention(self, q: list[Tensor], k: list[Tensor]) -> list[Tensor]:
        """The maps, a tensor [1, B, N, N] a head."""
        scores = [paddle.matmul(q[h], k[h], transpose_y=True) for h in range(self.heads)]
        maps = [F.softmax(chain(scores, self.before[:, g]), axis=-1) for g in range(self.heads)]
        return [chain(maps, self.after[:, g]) + float(self.shift[g]) for g in range(self.heads)]

    @staticmethod
    def by_head(maps: list[Tensor]) -> Tensor:
        """What ``attention`` gives -> [B, H, N, N]."""
        return paddle.concat(maps, axis=0).transpose([1, 0, 2, 3])


def chain(maps: list[Tensor], weights: np.ndarray) -> Tensor:
    """sum over h of weights[h] * maps[h], as ((maps[0] * w0/w1 + maps[1]) * w1/w2 + ...) * w_last."""
    used = [h for h in range(len(maps)) if weights[h]] or [0]
    total = maps[used[0]]
    for h, following in zip(used, used[1:]):
        total = total * float(weights[h] / weights[following]) + maps[following]
    return total * float(weights[used[-1]])


class FusedBlock(nn.Layer):
    """[B, N, C] -> [B, N, C]."""

    def __init__(self, block: Block, tokens: int, form: str) -> None:
        super().__init__()
        heads = MatmulHeads if form == "matmul" else ChainHeads
        self.norm1, self.norm2 = Norm(block.norm1), Norm(block.norm2)
        self.attn = heads(TalkingHeads.of(block.attn, block.norm1, array(block.gamma_1), tokens), tokens)
        self.mlp = Mlp(block.mlp, block.norm2, array(block.gamma_2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class FusedClassBlock(nn.Layer):
    """Class token [B, 1, C] and normalised patches [B, N, C] -> class token and its map [B, H, 1, 1+N]."""

    def __init__(self, block: ClassBlock, patches: int) -> None:
        super().__init__()
        attn, norm = block.attn, block.norm1
        self.norm1, self.norm2 = Norm(norm), Norm(block.norm2)
        q, k, v = (Affine.of(part).after(norm) for part in (attn.q, attn.k, attn.v))
        proj = Affine.of(attn.proj).scaled(array(block.gamma_1))
        self.attn = FewQueries(q.scaled(attn.scale), k, v, proj, attn.num_heads, 1 + patches, queries=1)
        self.mlp = Mlp(block.mlp, block.norm2, array(block.gamma_2))

    def forward(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        update, maps = self.attn(paddle.concat([self.norm1(cls), patches], axis=1))
        cls = cls + update
        return cls + self.mlp(self.norm2(cls)), maps


class FusedCaiT(nn.Layer):
    """Images -> (logits [B, classes], features [B, C], attention [B, H, 1, 1+N] of the last class block)."""

    def __init__(self, model: CaiT, pixels: Any, form: str) -> None:
        super().__init__()
        count = model.patch_embed.num_patches
        self.patches = Patches(model.patch_embed, pixels)
        self.table = parameter(self, array(model.pos_embed) + self.patches.shift)
        self.cls = parameter(self, array(model.cls_token))
        self.blocks = nn.LayerList([FusedBlock(block, count, form) for block in model.blocks])
        self.class_blocks = nn.LayerList([FusedClassBlock(block, count) for block in model.blocks_token_only])
        self.norm_patches = Norm(
            model.blocks_token_only[0].norm1
        )  # the class blocks' norms differ only in what moved on
        self.norm, self.head = copy_of(model.norm), copy_of(model.head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches = self.patches(x) + self.table
        for block in self.blocks:
            patches = block(patches)
        cls = self.cls.expand([patches.shape[0], -1, -1])
        patches = self.norm_patches(patches)
        for block in self.class_blocks:
            cls, maps = block(cls, patches)
        features = self.norm(cls[:, 0])
        return self.head(features), features, maps
