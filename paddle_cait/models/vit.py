"""ViT: An Image is Worth 16x16 Words (Dosovitskiy et al., https://arxiv.org/abs/2010.11929), and what descends from it.

Official source: google-research/vision_transformer, models_vit.py (Flax). Its .npz files have no names of PyTorch's
kind, so parameter names are timm's. DeiT and DINO, which add tokens and scales, are in deit.py and dino.py.

Deliberate deviations, all exact in real arithmetic:
- query, key and value are one matrix ``qkv``, as in every PyTorch port;
- ``forward`` applies the final norm to the tokens the classifier sees, the only ones that are used.

Shapes: B images, N patches, T tokens (prefix tokens, then patches), C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers import init
from paddle_cait.layers.attention import Attention
from paddle_cait.layers.drop_path import DropPath
from paddle_cait.layers.mlp import Mlp
from paddle_cait.layers.patch_embed import PatchEmbed, Size
from paddle_cait.layers.pos_embed import RULES, PositionTable
from paddle_cait.layers.token_layout import TokenLayout
from paddle_cait.models.resnetv2 import backbone

EPSILON = 1e-6


class Block(nn.Layer):
    """Self-attention and MLP, each behind a norm and beside a shortcut. [B, T, C] -> [B, T, C]."""

    def __init__(self, attn: Attention, mlp: nn.Layer, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Layer):
    """[B, in_chans, H, W] float32 -> logits [B, num_classes]; ``num_classes=0`` gives features [B, embed_dim].

    Args:
        img_size: input height and width in pixels, one int or (height, width), multiples of the patch.
        patch_size: in pixels; in pixels of the backbone's output for a hybrid.
        num_heads: it divides ``embed_dim``.
        mlp_ratio: hidden width of the MLPs over ``embed_dim``.
        representation_size: width of the layer with tanh before the head that Google's ImageNet-21k files have.
        act: ``gelu`` (exact, as the PyTorch ports) or ``gelu_tanh`` (as the JAX original).
        backbone_layers: bottlenecks in each stage of a hybrid's ResNet; ``()`` is its stem alone, None no hybrid.
        constants: epsilons of that ResNet, ``flax`` or ``timm``.
        resample: rule by which position tables follow the image size; see :data:`paddle_cait.layers.pos_embed.RULES`.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        drop_rate: dropout after the position table, the attention projection and in the MLPs.
        attn_drop_rate: dropout of the attention maps.
        block, mlp: constructors of what a descendant builds differently.
        prefix: (tokens before the patches, how many of them have an entry in the position table).

    Raises :class:`PaddleCaitError` for an ``img_size`` that is no multiple of the patch, an ``embed_dim`` that
    ``num_heads`` does not divide, and an ``act``, ``constants`` or ``resample`` other than these.
    """

    classifier: tuple[str, ...] = ("pre_logits.fc", "head")  # the layers that another number of classes replaces
    class_tokens = 1  # of the prefix tokens; the others are registers

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        representation_size: int | None = None,
        act: str = "gelu",
        backbone_layers: Sequence[int] | None = None,
        constants: str = "flax",
        resample: str = "google",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        *,
        block: Callable[..., Block] = Block,
        mlp: Callable[..., nn.Layer] = Mlp,
        prefix: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        if resample not in RULES:
            raise PaddleCaitError(f"resample is {resample!r}, expected one of {', '.join(RULES)}")
        self.num_classes = num_classes
        self.num_features = embed_dim
        self.num_prefix_tokens, self.table_prefix = prefix
        self.resample = resample
        self.grad_checkpointing = False
        stem = None if backbone_layers is None else backbone(backbone_layers, in_chans, constants)
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim, stem)
        self.cls_token = self._token(1)
        self.pos_embed = self._token(self.table_prefix + self.patch_embed.num_patches)
        self.pos_drop = nn.Dropout(drop_rate)
        hidden = int(embed_dim * mlp_ratio)
        blocks = []
        for rate in self.drop_path_rates(drop_path_rate, depth):
            attn = Attention(embed_dim, num_heads, attn_drop_rate, drop_rate)
            blocks.append(block(attn, mlp(embed_dim, hidden, drop_rate, act), embed_dim, rate))
        self.blocks = nn.LayerList(blocks)
        self.norm = nn.LayerNorm(embed_dim, epsilon=EPSILON)
        width = embed_dim
        self.pre_logits: nn.Layer = nn.Identity()
        if representation_size and num_classes > 0:
            width = representation_size
            self.pre_logits = nn.Sequential(("fc", init.linear(embed_dim, width)), ("act", nn.Tanh()))
        self.head = init.linear(width, num_classes) if num_classes > 0 else nn.Identity()

    @staticmethod
    def drop_path_rates(rate: float, depth: int) -> list[float]:
        """Of each block, from 0 to ``rate``."""
        return np.linspace(0, rate, depth).tolist()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [B, in_chans, H, W], normalised -> float32 logits [B, num_classes], or features [B, embed_dim].

        Raises :class:`PaddleCaitError` for images of another size than the model's.
        """
        return self.head(self.pre_logits(self.forward_features(x)))

    def forward_features(self, x: Tensor) -> Tensor:
        """The normalised class token, [B, C]: what the classifier sees."""
        return self.norm(self._blocks(x)[:, 0])

    def forward_tokens(self, x: Tensor) -> Tensor:
        """All tokens after the last block, normalised: [B, T, C], ``num_prefix_tokens`` of them before the patches."""
        return self.norm(self._blocks(x))

    def get_intermediate_layers(self, x: Tensor, n: int = 1) -> list[Tensor]:
        """The tokens after each of the last ``n`` blocks, oldest first, through the final norm: n times [B, T, C]."""
        if not 1 <= n <= len(self.blocks):
            raise PaddleCaitError(f"n is {n}, expected 1 to {len(self.blocks)}: the model's blocks")
        tokens = self._embed(x)
        outputs = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if len(self.blocks) - i <= n:
                outputs.append(self.norm(tokens))
        return outputs

    def _blocks(self, x: Tensor) -> Tensor:
        tokens = self._embed(x)
        for block in self.blocks:
            tokens = recompute(block, tokens) if self.grad_checkpointing and self.training else block(tokens)
        return tokens

    def _embed(self, x: Tensor) -> Tensor:
        """Images -> tokens with their positions, [B, T, C]."""
        return self.add_positions(self.patch_embed(x))

    def add_positions(self, patches: Tensor) -> Tensor:
        """Patches [B, N, C] -> tokens with their positions, [B, T, C]."""
        return self.pos_drop(paddle.concat([*self._prefix(patches), patches], axis=1) + self.pos_embed)

    def _prefix(self, patches: Tensor) -> list[Tensor]:
        """The tokens before the patches, one of each an image, whatever the batch."""
        return [self.cls_token.expand_as(patches[:, :1])]

    def _token(self, count: int) -> Tensor:
        return self.create_parameter([1, count, self.num_features], default_initializer=init.NORMAL_02)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
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
        return {"pos_embed": PositionTable(self.resample, self.table_prefix, self.grid)}

    def attention_layers(self) -> dict[str, tuple[nn.Layer, TokenLayout]]:
        """Layers whose method ``attention`` gives maps, by name, in forward order, and how their tokens lie."""
        registers = self.num_prefix_tokens - self.class_tokens
        layout = TokenLayout("tokens", self.grid, self.patch_embed.stride, self.class_tokens, registers)
        return {f"blocks.{i}.attn": (block.attn, layout) for i, block in enumerate(self.blocks)}
