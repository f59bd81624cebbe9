"""CaiT: Going deeper with Image Transformers (Touvron et al., https://arxiv.org/abs/2103.17239).

Official source: facebookresearch/deit, cait_models.py. Parameter names are its names.

Deliberate deviations, all exact in real arithmetic:
- heads are mixed by one [H, H] matmul over [H, N*N], instead of a Linear over a transposed [N, N, H] tensor;
- the query scale is folded into that [H, H] matrix;
- the bias of ``proj_l`` is constant along the keys, so the softmax cancels it: it is added in training only, where it
  must keep its (zero) gradient;
- the final norm is applied to the class token alone, the only one that is used.

Shapes: B images, N patch tokens, C channels, H heads, D = C/H channels a head.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from paddle_cait.layers import init
from paddle_cait.layers.attention import Attention, scale_of
from paddle_cait.layers.drop_path import DropPath
from paddle_cait.layers.mlp import Mlp
from paddle_cait.layers.patch_embed import PatchEmbed, Size
from paddle_cait.layers.pos_embed import PositionTable
from paddle_cait.layers.token_layout import TokenLayout

EPSILON = 1e-6


class TalkingHeadsAttention(Attention):
    """Self-attention with heads mixed before and after the softmax (Shazeer et al. 2020). [B, N, C] -> [B, N, C]."""

    def __init__(self, dim: int, num_heads: int, attn_drop: float = 0.0, drop: float = 0.0) -> None:
        super().__init__(dim, num_heads, attn_drop, drop)
        self.proj_l = init.linear(num_heads, num_heads)
        self.proj_w = init.linear(num_heads, num_heads)

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """The maps [B, H, N, N] that weigh the values. Rows need not sum to 1: ``proj_w`` comes after the softmax."""
        scores = mix_heads(paddle.matmul(q, k, transpose_y=True), self.proj_l.weight * self.scale)
        if self.training:
            scores = scores + self.proj_l.bias.reshape([-1, 1, 1])
        return mix_heads(F.softmax(scores, axis=-1), self.proj_w.weight) + self.proj_w.bias.reshape([-1, 1, 1])


def mix_heads(maps: Tensor, weight: Tensor) -> Tensor:
    """out[b, g] = sum over h of weight[h, g] * maps[b, h]; maps [B, H, N, M], weight [H, H] as Linear stores it."""
    return paddle.matmul(weight, maps.flatten(2), transpose_x=True).reshape(maps.shape)


class Block(nn.Layer):
    """Talking-heads attention and MLP, residual branches scaled per channel (LayerScale). [B, N, C] -> [B, N, C]."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        init_values: float,
        drop: float,
        attn_drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.attn = TalkingHeadsAttention(dim, num_heads, attn_drop, drop)
        self.norm2 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop)
        self.drop_path = DropPath(drop_path)
        self.gamma_1 = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))
        self.gamma_2 = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x)))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))


class ClassAttention(nn.Layer):
    """The class token asks, all tokens answer. [B, 1+N, C], class token first -> [B, 1, C]."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale_of(dim, num_heads)
        self.q = init.linear(dim, dim)
        self.k = init.linear(dim, dim)
        self.v = init.linear(dim, dim)
        self.proj = init.linear(dim, dim)

    def forward(self, u: Tensor) -> Tensor:
        q = self._heads(self.q(u[:, :1]) * self.scale)  # [B, H, 1, D]
        k, v = self._heads(self.k(u)), self._heads(self.v(u))  # [B, H, 1+N, D]
        return self.proj(paddle.matmul(self.attention(q, k), v).transpose([0, 2, 1, 3]).flatten(2))

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """The map [B, H, 1, 1+N] of the class token over all tokens, itself first; rows sum to 1."""
        return F.softmax(paddle.matmul(q, k, transpose_y=True), axis=-1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape([0, 0, self.num_heads, -1]).transpose([0, 2, 1, 3])


class ClassBlock(nn.Layer):
    """Class attention and MLP that update the class token [B, 1, C] alone; the patch tokens [B, N, C] stay."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, init_values: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.attn = ClassAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.gamma_1 = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))
        self.gamma_2 = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))

    def forward(self, patches: Tensor, cls: Tensor) -> Tensor:
        u = paddle.concat([cls, patches], axis=1)
        cls = cls + self.gamma_1 * self.attn(self.norm1(u))
        return cls + self.gamma_2 * self.mlp(self.norm2(cls))


class CaiT(nn.Layer):
    """Class-Attention in Image Transformers.

    [B, in_chans, H, W] float32 -> logits [B, num_classes]; ``num_classes=0`` gives features [B, embed_dim].

    Args:
        img_size: input height and width in pixels, one int or (height, width), multiples of ``patch_size``.
        depth: talking-heads blocks, over the patches.
        num_heads: of every block; it divides ``embed_dim``.
        mlp_ratio: hidden width of the patch blocks' MLPs over ``embed_dim``.
        depth_token_only: class-attention blocks, after them.
        mlp_ratio_token_only: hidden width of the class blocks' MLPs over ``embed_dim``.
        init_values: initial LayerScale (1e-5 up to S24, 1e-6 for the deeper and wider ones).
        drop_path_rate: stochastic depth, the same in every patch block and none in the class blocks, as the authors'.
        drop_rate: dropout after the position table, the attention projection and in the MLPs of the patch blocks.
        attn_drop_rate: dropout of the patch blocks' attention maps.

    Raises :class:`PaddleCaitError` for an ``img_size`` that is no multiple of the patch,
    and heads that do not divide the width.
    """

    classifier = ("head",)  # the layers that another number of classes replaces

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        depth: int = 24,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        depth_token_only: int = 2,
        mlp_ratio_token_only: float = 4.0,
        init_values: float = 1e-5,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = embed_dim
        self.grad_checkpointing = False
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.cls_token = self.create_parameter([1, 1, embed_dim], default_initializer=init.NORMAL_02)
        table = [1, self.patch_embed.num_patches, embed_dim]
        self.pos_embed = self.create_parameter(table, default_initializer=init.NORMAL_02)
        self.pos_drop = nn.Dropout(drop_rate)
        branch = (embed_dim, num_heads, mlp_ratio, init_values, drop_rate, attn_drop_rate, drop_path_rate)
        self.blocks = nn.LayerList([Block(*branch) for _ in range(depth)])
        self.blocks_token_only = nn.LayerList(
            [ClassBlock(embed_dim, num_heads, mlp_ratio_token_only, init_values) for _ in range(depth_token_only)]
        )
        self.norm = nn.LayerNorm(embed_dim, epsilon=EPSILON)
        self.head = init.linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [B, in_chans, H, W], normalised -> float32 logits [B, num_classes], or features [B, embed_dim].

        Raises :class:`PaddleCaitError` for images of another size than the model's.
        """
        return self.head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The normalised class token, [B, embed_dim]: what the classifier sees."""
        patches = self.pos_drop(self.patch_embed(x) + self.pos_embed)
        for block in self.blocks:
            patches = recompute(block, patches) if self.grad_checkpointing and self.training else block(patches)
        cls = self.cls_token.expand_as(patches[:, :1])  # one an image, whatever the batch
        for block in self.blocks_token_only:
            cls = block(patches, cls)
        return self.norm(cls[:, 0])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the patch blocks in the backward pass instead of keeping their activations."""
        self.grad_checkpointing = enable

    @property
    def img_size(self) -> tuple[int, int]:
        """Input height and width in pixels."""
        return self.patch_embed.img_size

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width."""
        return self.patch_embed.grid

    def position_tables(self) -> dict[str, PositionTable]:
        """Tables that depend on the image size, by parameter name."""
        return {"pos_embed": PositionTable("deit", 0, self.grid)}

    def attention_layers(self) -> dict[str, tuple[nn.Layer, TokenLayout]]:
        """Layers whose method ``attention`` gives maps, by name, in forward order, and how their tokens lie."""
        stride = self.patch_embed.stride
        patches = TokenLayout("tokens", self.grid, stride, rows_sum_to_one=False)
        cls = TokenLayout("class", self.grid, stride, class_tokens=1)
        return {
            **{f"blocks.{i}.attn": (block.attn, patches) for i, block in enumerate(self.blocks)},
            **{f"blocks_token_only.{i}.attn": (block.attn, cls) for i, block in enumerate(self.blocks_token_only)},
        }
