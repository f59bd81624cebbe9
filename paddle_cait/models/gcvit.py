"""GCViT: Global Context Vision Transformers (Hatamizadeh et al., ICML 2023, https://arxiv.org/abs/2206.09959).

Written from the paper; parameter names are those of NVlabs' checkpoints. Each level alternates attention within windows
with attention of the same windows to a *global query*: the level's map, pooled to the size of one window.

Any image size: the number of windows a side is fixed (8, 4, 1, 1 by level, as at the paper's 224 pixels); windows and
global query follow the map: 7x7 at 224 pixels, 12x12 at 384, 10x15 at 320x480. Where a side of the map is no multiple
of its windows, the map is padded at the bottom and right, and no token sees the padding. Convolutions round up.

Deliberate deviations, all exact in real arithmetic:
- one relative position index serves both kinds of attention and all blocks of a level;
- a window's tokens stay [B*windows, tokens, C] through attention; each image's global query is repeated for its own
  windows (the order that older ports mixed up within a batch).

Shapes: B images, [B, h, w, C] maps, M windows an image, T tokens a window, H heads, D = C/H channels a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers import init
from paddle_cait.layers.attention import scale_of
from paddle_cait.layers.drop_path import DropPath
from paddle_cait.layers.mlp import Mlp
from paddle_cait.layers.patch_embed import Size
from paddle_cait.layers.pos_embed import BiasTable
from paddle_cait.layers.token_layout import TokenLayout

EPSILON = 1e-5
WINDOWS = (8, 4, 1, 1)  # windows a side, by level
Grid = tuple[int, int]


class SqueezeExcite(nn.Layer):
    """Channels weighted by what the whole map shows (Hu et al. 2018). [B, C, h, w] -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim // 4
        self.fc = nn.Sequential(
            init.linear(dim, hidden, bias=False), nn.GELU(), init.linear(hidden, dim, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1)).unsqueeze([2, 3])


class MBConv(nn.Layer):
    """Depthwise 3x3, squeeze-excite, 1x1, beside a shortcut. [B, C, h, w] -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        depthwise = init.conv(dim, dim, 3, 1, padding=1, groups=dim, bias=False)
        pointwise = init.conv(dim, dim, 1, 1, bias=False)
        self.conv = nn.Sequential(depthwise, nn.GELU(), SqueezeExcite(dim), pointwise)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class ReduceSize(nn.Layer):
    """Halves a map: [B, h, w, dim] -> [B, ceil(h/2), ceil(w/2), out]."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.conv = MBConv(dim).conv
        self.reduction = init.conv(dim, out, 3, 2, padding=1, bias=False)
        self.norm2 = nn.LayerNorm(out, epsilon=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x).transpose([0, 3, 1, 2])
        x = self.reduction(x + self.conv(x))
        return self.norm2(x.transpose([0, 2, 3, 1]))


class PatchEmbed(nn.Layer):
    """Images to a map of a quarter of the size: [B, in_chans, H, W] -> [B, ceil(H/4), ceil(W/4), dim]."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = init.conv(in_chans, dim, 3, 2, padding=1)
        self.conv_down = ReduceSize(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_down(self.proj(x).transpose([0, 2, 3, 1]))


class GlobalQuery(nn.Layer):
    """A level's map pooled to one window, the query that all its windows share: [B, h, w, C] -> [B, T, C]."""

    def __init__(self, dim: int, pools: int) -> None:
        super().__init__()
        self.pools = pools
        self.to_q_global = nn.LayerList([MBConv(dim) for _ in range(max(pools, 1))])

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose([0, 3, 1, 2])
        for block in self.to_q_global:
            x = block(x)
            if self.pools:
                x = F.max_pool2d(x, 3, stride=2, padding=1)
        return x.flatten(2).transpose([0, 2, 1])


class WindowAttention(nn.Layer):
    """Self-attention within windows, [B*M, T, C] -> the same; where ``shared`` its query is ``q_global`` [B, T, C]."""

    def __init__(self, dim: int, num_heads: int, window: Grid, shared: bool, attn_drop: float, drop: float) -> None:
        super().__init__()
        self.num_heads, self.shared = num_heads, shared
        self.scale = scale_of(dim, num_heads)
        self.qkv = init.linear(dim, (2 if shared else 3) * dim)  # shared: keys and values alone
        self.proj = init.linear(dim, dim)
        places = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = self.create_parameter(
            [places, num_heads], default_initializer=init.NORMAL_02
        )
        self.attn_drop, self.proj_drop = nn.Dropout(attn_drop), nn.Dropout(drop)

    def forward(self, x: Tensor, q_global: Tensor, index: Tensor, mask: Tensor | None, windows: int) -> Tensor:
        parts = self.qkv(x).reshape([0, 0, 2 if self.shared else 3, self.num_heads, -1]).transpose([2, 0, 3, 1, 4])
        if self.shared:
            q = q_global.reshape([0, 0, self.num_heads, -1]).transpose([0, 2, 1, 3]).unsqueeze(1)  # [B, 1, H, T, D]
            q = q.expand([-1, windows, -1, -1, -1]).flatten(0, 1)  # an image's query for each of its own windows
            k, v = parts[0], parts[1]
        else:
            q, k, v = parts[0], parts[1], parts[2]  # each [B*M, H, T, D]
        x = paddle.matmul(self.attn_drop(self.attention(q, k, index, mask, windows)), v)
        return self.proj_drop(self.proj(x.transpose([0, 2, 1, 3]).flatten(2)))

    def attention(self, q: Tensor, k: Tensor, index: Tensor, mask: Tensor | None, windows: int) -> Tensor:
        """The maps [B*M, H, T, T] that weigh the values; rows sum to 1 over the window's tokens that are no padding."""
        tokens = k.shape[2]
        bias = self.relative_position_bias_table.index_select(index).reshape([tokens, tokens, -1]).transpose([2, 0, 1])
        scores = paddle.matmul(q * self.scale, k, transpose_y=True) + bias
        if mask is not None:
            scores = (scores.reshape([-1, windows, self.num_heads, tokens, tokens]) + mask).flatten(0, 1)
        return F.softmax(scores, axis=-1)


class Windows(nn.Layer):
    """How a level's map lies in windows. ``split``: [B, h, w, C] -> [B*M, T, C]; ``join`` takes it back.

    ``index`` [T*T]: the place in the bias table of each pair of tokens. ``mask`` [M, 1, 1, T]: what is added to the
    scores of padding, which no token sees; None where nothing is padded.
    """

    def __init__(self, grid: Grid, windows: int) -> None:
        super().__init__()
        self.grid, self.side, self.count = grid, windows, windows * windows
        self.window = (math.ceil(grid[0] / windows), math.ceil(grid[1] / windows))
        self.pad = (self.window[0] * windows - grid[0], self.window[1] * windows - grid[1])
        self.register_buffer("index", paddle.to_tensor(self._index()), persistable=False)
        mask = paddle.to_tensor(self._mask()) if any(self.pad) else None
        self.register_buffer("mask", mask, persistable=False)

    def split(self, x: Tensor) -> Tensor:
        if self.mask is not None:
            x = F.pad(x, [0, self.pad[1], 0, self.pad[0]], data_format="NHWC")
        n, (rows, columns), channels = self.side, self.window, x.shape[-1]
        x = x.reshape([-1, n, rows, n, columns, channels]).transpose([0, 1, 3, 2, 4, 5])
        return x.reshape([-1, rows * columns, channels])

    def join(self, x: Tensor) -> Tensor:
        n, (rows, columns), channels = self.side, self.window, x.shape[-1]
        x = x.reshape([-1, n, n, rows, columns, channels]).transpose([0, 1, 3, 2, 4, 5])
        x = x.reshape([-1, n * rows, n * columns, channels])
        return x if self.mask is None else x[:, : self.grid[0], : self.grid[1]]

    def _index(self) -> np.ndarray:
        rows, columns = self.window
        place = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")).reshape(2, -1)
        offset = place[:, :, None] - place[:, None, :]  # [2, T, T], from -(side - 1) to side - 1
        return ((offset[0] + rows - 1) * (2 * columns - 1) + offset[1] + columns - 1).reshape(-1)

    def _mask(self) -> np.ndarray:
        """Finite, so that a window of padding alone gives numbers too (they are cut off)."""
        there = np.zeros([self.side * side for side in self.window], np.float32)
        there[: self.grid[0], : self.grid[1]] = 1.0
        there = there.reshape(self.side, self.window[0], self.side, self.window[1]).transpose(0, 2, 1, 3)
        return np.where(there.reshape(self.count, 1, 1, -1) > 0, np.float32(0), np.float32(-1e9))


class Block(nn.Layer):
    """Window attention and MLP on a map, [B, h, w, C] -> the same. ``q_global``: the level's, [B, T, C]."""

    def __init__(
        self,
        attn: WindowAttention,
        dim: int,
        mlp_ratio: float,
        init_values: float | None,
        drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, epsilon=EPSILON)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop)
        self.drop_path = DropPath(drop_path)
        self.scaled = init_values is not None
        if self.scaled:
            start = nn.initializer.Constant(init_values)
            self.gamma1 = self.create_parameter([dim], default_initializer=start)
            self.gamma2 = self.create_parameter([dim], default_initializer=start)

    def forward(self, x: Tensor, q_global: Tensor, windows: Windows) -> Tensor:
        branch = self.attn(windows.split(self.norm1(x)), q_global, windows.index, windows.mask, windows.count)
        branch = windows.join(branch)
        x = x + self.drop_path(self.gamma1 * branch if self.scaled else branch)
        branch = self.mlp(self.norm2(x))
        return x + self.drop_path(self.gamma2 * branch if self.scaled else branch)


class Level(nn.Layer):
    """Blocks of one width on one map, [B, h, w, C] -> the same; ``downsample`` leads to the next level."""

    def __init__(self, blocks: list[Block], dim: int, windows: Windows, downsample: ReduceSize | None) -> None:
        super().__init__()
        self.windows = windows
        self.q_global_gen = GlobalQuery(dim, int(math.log2(windows.side)))
        self.blocks = nn.LayerList(blocks)
        self.downsample = downsample
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        q_global = self.q_global_gen(x)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                x = recompute(block, x, q_global, self.windows)
            else:
                x = block(x, q_global, self.windows)
        return x


class GCViT(nn.Layer):
    """[B, in_chans, H, W] float32 -> logits [B, num_classes]; ``num_classes=0`` gives features [B, 8*embed_dim].

    Args:
        img_size: input height and width in pixels, one int or (height, width), at least 32.
        depths, num_heads: blocks and heads of the four levels, whose widths are embed_dim times 1, 2, 4, 8.
        init_values: initial LayerScale; None has none (the variants up to tiny2).
        mlp_ratio: hidden width of the MLPs over the level's width.
        features_only: give the maps of the four levels instead, [B, C, h, w] each, the last one normalised;
            ``feature_channels`` and ``feature_strides`` describe them.
        drop_rate: dropout after the stem, the attention projections and in the MLPs.
        attn_drop_rate: dropout of the attention maps.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.

    Raises :class:`PaddleCaitError` for an ``img_size`` below 32 a side, and heads that do not divide the width.
    """

    classifier = ("head",)
    feature_strides = (4, 8, 16, 32)

    def __init__(
        self,
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 64,
        depths: Sequence[int] = (3, 4, 19, 5),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        mlp_ratio: float = 3.0,
        init_values: float | None = None,
        features_only: bool = False,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = (height, width)
        if min(self.img_size) < 32:
            raise PaddleCaitError(f"img_size is {self.img_size[0]}x{self.img_size[1]}, expected at least 32 a side")
        self.num_classes, self.features_only = num_classes, features_only
        self.feature_channels = tuple(embed_dim * 2**i for i in range(4))
        self.num_features = self.feature_channels[-1]
        self.patch_embed = PatchEmbed(in_chans, embed_dim)
        self.pos_drop = nn.Dropout(drop_rate)
        rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())
        levels = []
        for i, dim in enumerate(self.feature_channels):
            stride = self.feature_strides[i]
            windows = Windows((math.ceil(self.img_size[0] / stride), math.ceil(self.img_size[1] / stride)), WINDOWS[i])
            blocks = []
            for j in range(depths[i]):
                attn = WindowAttention(dim, num_heads[i], windows.window, j % 2 == 1, attn_drop_rate, drop_rate)
                blocks.append(Block(attn, dim, mlp_ratio, init_values, drop_rate, next(rates)))
            levels.append(Level(blocks, dim, windows, ReduceSize(dim, 2 * dim) if i < 3 else None))
        self.levels = nn.LayerList(levels)
        self.norm = nn.LayerNorm(self.num_features, epsilon=EPSILON)
        self.head = init.linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """float32 [B, in_chans, H, W], normalised -> float32 logits [B, num_classes], features [B, 8*embed_dim] or,
        with ``features_only``, :meth:`forward_maps`.

        Raises :class:`PaddleCaitError` for images of another size than the model's.
        """
        if self.features_only:
            return self.forward_maps(x)
        return self.head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The mean of the last level's normalised map, [B, 8*embed_dim]: what the classifier sees."""
        return self._maps(x)[-1].mean([1, 2])

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The map of each level, [B, C, h, w], for detection and segmentation; the last one is normalised."""
        return [level.transpose([0, 3, 1, 2]) for level in self._maps(x)]

    def _maps(self, x: Tensor) -> list[Tensor]:
        if paddle.in_dynamic_mode():
            self._check(x)
        x = self.pos_drop(self.patch_embed(x))
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
            if level.downsample is not None:
                x = level.downsample(x)
        maps[-1] = self.norm(maps[-1])
        return maps

    @paddle.jit.not_to_static
    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[2:]) != self.img_size:
            height, width = self.img_size
            raise PaddleCaitError(
                f"input is {list(x.shape)}, expected [batch, channels, {height}, {width}]: resize the images, or build "
                "the model with img_size=(height, width)"
            )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        for level in self.levels:
            level.grad_checkpointing = enable

    def position_tables(self) -> dict[str, BiasTable]:
        """Tables that depend on the image size, by parameter name."""
        return {
            f"levels.{i}.blocks.{j}.attn.relative_position_bias_table": BiasTable(level.windows.window)
            for i, level in enumerate(self.levels)
            for j in range(len(level.blocks))
        }

    def attention_layers(self) -> dict[str, tuple[nn.Layer, TokenLayout]]:
        """Layers whose method ``attention`` gives maps, by name, in forward order, and how their tokens lie."""
        layers = {}
        for i, level in enumerate(self.levels):
            grid, side, step = level.windows.grid, level.windows.side, self.feature_strides[i]
            for j, block in enumerate(level.blocks):
                layout = TokenLayout("windows", grid, (step, step), side=side, shared=block.attn.shared)
                layers[f"levels.{i}.blocks.{j}.attn"] = (block.attn, layout)
        return layers
