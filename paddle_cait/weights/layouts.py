"""Key layouts: whose names, whose array forms, what is left out and why. A layout is one row of a table.

The package's own names are the authors' (facebookresearch's; timm's for Google's ViT), so most rows are short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Callable, Union

from paddle_cait.weights.forms import (
    Form,
    class_entry,
    conv_kernel,
    depthwise_kernel,
    flat,
    heads_first,
    heads_last,
    pointwise,
)
from paddle_cait.weights.tensors import TensorRef

Replacement = Union[str, Callable[[re.Match], str]]
PARTS = ("query", "key", "value", "gate", "up")  # the order in which parts are joined


@dataclass(frozen=True)
class Layout:
    """``name``: as reports have it. ``renames``: (regex, replacement) on each key, in order. A name ``NAME#query`` is
    the query part of ``NAME``; a name's :data:`PARTS` are joined along the output axis. ``left_out``: (regex, reason)
    for renamed keys without a place. ``forms``: (regex, form) for arrays that are not shaped as PyTorch's. ``in_out``:
    whether Linear weights are [in, out]; None: read it off the matrices that are not square.
    """

    name: str
    renames: tuple[tuple[str, Replacement], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    forms: tuple[tuple[str, Form], ...] = ()
    in_out: bool | None = None

    def rename(self, key: str) -> str:
        """The package's name for a file's ``key``, with ``#part`` where it is one of several."""
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key

    def reason_to_leave_out(self, name: str) -> str | None:
        """Why a renamed key has no place in the model; None where it should have one."""
        return next((reason for pattern, reason in (*self.left_out, *LEFT_OUT) if re.search(pattern, name)), None)

    def in_form(self, name: str, ref: TensorRef) -> TensorRef:
        """The tensor in PyTorch's shape; ``name`` is the renamed key, with its ``#part``."""
        return next((form(ref) for pattern, form in self.forms if re.search(pattern, name)), ref)


# Whatever the layout.
LEFT_OUT = (
    (r"^mask_token$", "serves DINOv2's pre-training alone"),
    (r"\.relative_position_index$", "follows from the window size"),
)

_GOOGLE: tuple[tuple[str, Replacement], ...] = (
    (r"^(opt/target|params/img|params)/", ""),
    (r"^cls$", "cls_token"),
    (r"^(Transformer/posembed_input/)?pos_embedding$", "pos_embed"),
    (r"^embedding/", "patch_embed.proj/"),
    (r"^conv_root/", "patch_embed.backbone.stem.conv/"),
    (r"^gn_root/", "patch_embed.backbone.stem.norm/"),
    (
        r"^block(\d+)/unit(\d+)/",
        lambda found: f"patch_embed.backbone.stages.{int(found[1]) - 1}.blocks.{int(found[2]) - 1}.",
    ),
    (r"\.conv_proj/", ".downsample.conv/"),
    (r"\.gn_proj/", ".downsample.norm/"),
    (r"\.gn(\d)/", r".norm\1/"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_(\d+)/", r"blocks.\1."),
    (r"\.LayerNorm_0/", ".norm1/"),
    (r"\.LayerNorm_[12]/", ".norm2/"),  # pre-linen modules were numbered together, later ones by kind
    (r"\.MultiHeadDotProductAttention_[01]/(query|key|value)/(kernel|bias)$", r".attn.qkv/\2#\1"),
    (r"\.MultiHeadDotProductAttention_[01]/out/", ".attn.proj/"),
    (r"\.MlpBlock_[03]/Dense_0/", ".mlp.fc1/"),
    (r"\.MlpBlock_[03]/Dense_1/", ".mlp.fc2/"),
    (r"^pre_logits/", "pre_logits.fc/"),
    (r"/(kernel|scale)\b", ".weight"),
    (r"/bias\b", ".bias"),
)
_GOOGLE_NPZ = Layout(
    "google",  # google-research/vision_transformer and big_vision
    renames=_GOOGLE,
    forms=(
        (r"attn\.qkv\.(weight|bias)#", heads_last),
        (r"attn\.proj\.weight$", heads_first),
        (r"\.norm\d?\.(weight|bias)$", flat),
        (r"\.conv\d?\.weight$|^patch_embed\.proj\.weight$", conv_kernel),
    ),
    in_out=True,
)
_POOLER = "Hugging Face's pooler, which this model does not have and its classifier does not use"
_HUGGING_FACE: tuple[tuple[str, Replacement], ...] = (
    (r"^(backbone\.)?((vit|deit|dinov2|dinov2_with_registers)\.)?", ""),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^(encoder\.layer|layers|encoder\.layers)\.(\d+)\.", r"blocks.\2."),
    (r"\.attention\.attention\.(query|key|value)\.(weight|bias)$", r".attn.qkv.\2#\1"),
    (r"\.attention\.q_proj\.(weight|bias)$", r".attn.qkv.\1#query"),
    (r"\.attention\.k_proj\.(weight|bias)$", r".attn.qkv.\1#key"),
    (r"\.attention\.v_proj\.(weight|bias)$", r".attn.qkv.\1#value"),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.(gate|up)_proj\.(weight|bias)$", r".mlp.w12.\2#\1"),
    (r"\.mlp\.(weights_out|down_proj)\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
    (r"^(cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
    (r"^pooler\.dense\.", "pre_logits.fc."),
)

_TIMM_GCVIT: tuple[tuple[str, Replacement], ...] = (
    (r"^stem\.conv1\.", "patch_embed.proj."),
    (r"^stem\.down\.", "patch_embed.conv_down."),
    (r"^stages\.(\d+)\.downsample\.", lambda found: f"levels.{int(found[1]) - 1}.downsample."),  # one level later
    (r"^stages\.\d+\.norm\.", "norm."),
    (r"^stages\.", "levels."),
    (
        r"\.global_block\.blocks\.conv(\d+)\.",
        lambda found: f".q_global_gen.to_q_global.{int(found[1]) - 1}.conv_block.",
    ),
    (r"\.conv_block\.conv_dw\.", ".conv.0."),
    (r"\.conv_block\.se\.fc1\.", ".conv.2.fc.0."),
    (r"\.conv_block\.se\.fc2\.", ".conv.2.fc.2."),
    (r"\.conv_block\.conv_pw\.", ".conv.3."),
    (r"\.attn\.rel_pos\.", ".attn."),
    (r"\.ls([12])\.gamma$", r".gamma\1"),
    (r"^head\.fc\.", "head."),
)

_KERAS_FORMS: tuple[tuple[str, Form], ...] = (
    (r"\.conv\.0\.weight$", depthwise_kernel),
    (r"\.conv\.3\.weight$|\.reduction\.weight$|^patch_embed\.proj\.weight$", conv_kernel),
)
_KERAS_H5: tuple[tuple[str, Replacement], ...] = (  # awsaf49/gcvit-tf: GROUP/MODEL/then its layers' names
    (r"^(model_weights/)?[^/]+/[^/]+/(?=.*:0$)", ""),
    (r":0$", ""),
    (r"\b(levels|blocks|to_q_global|conv|fc)_(\d+)/", r"\1/\2/"),
    (r"/(depthwise_kernel|kernel|gamma)$", "/weight"),
    (r"/beta$", "/bias"),
    (r"/", "."),
)


def _numbered(name: str) -> Callable[[re.Match], str]:
    """Keras leaves out the number of the first of several: ``block``, ``block_1``, ``block_2``."""
    return lambda found: f"{name}/{int(found[1] or 0)}/"


_KERAS_VARS: tuple[tuple[str, Replacement], ...] = (  # the same model in the .keras format, without names of its own
    (r"^levels/gc_vi_t_level(?:_(\d+))?/", _numbered("levels")),
    (r"\bblocks/gc_vi_t_block(?:_(\d+))?/", _numbered("blocks")),
    (r"\bto_q_global/feat_extract(?:_(\d+))?/", _numbered("to_q_global")),
    (r"/down/", "/downsample/"),
    (r"/conv/depthwise_conv2d/", "/conv/0/"),
    (r"/conv/conv2d/", "/conv/3/"),
    (r"/conv/se/fc/dense/", "/conv/2/fc/0/"),
    (r"/conv/se/fc/dense_1/", "/conv/2/fc/2/"),
    (r"^layers/dense/", "head/"),
    (r"/attn/vars/0$", "/attn/relative_position_bias_table"),
    (r"(blocks/\d+)/vars/0$", r"\1/gamma1"),
    (r"(blocks/\d+)/vars/1$", r"\1/gamma2"),
    (r"/vars/0$", "/weight"),
    (r"/vars/1$", "/bias"),
    (r"/", "."),
)

# The layout that explains most keys wins, the first of equals. Adding a layout is adding a row.
LAYOUTS = (
    Layout("official"),  # facebookresearch/deit, dino, dinov2; timm; Paddle-Image-Models; PaddleClas; this package
    Layout("timm (LayerScale)", renames=((r"\.ls([12])\.gamma$", r".gamma_\1"),)),  # of DeiT III
    Layout("timm (registers)", renames=((r"^reg_token$", "register_tokens"),), forms=((r"^pos_embed$", class_entry),)),
    Layout(
        "timm (SwiGLU)",  # DINOv2 ViT-g
        renames=((r"^reg_token$", "register_tokens"), (r"\.mlp\.fc1\.", ".mlp.w12."), (r"\.mlp\.fc2\.", ".mlp.w3.")),
        forms=((r"^pos_embed$", class_entry),),
    ),
    Layout("timm (GCViT)", renames=_TIMM_GCVIT, forms=((r"\.conv\.2\.fc\.[02]\.weight$", pointwise),)),
    Layout("keras", renames=_KERAS_H5, forms=_KERAS_FORMS, in_out=True),
    Layout("keras (variables)", renames=_KERAS_VARS, forms=_KERAS_FORMS, in_out=True),
    _GOOGLE_NPZ,
    replace(_GOOGLE_NPZ, name="google (stem only)", renames=(*_GOOGLE, (r"\.backbone\.stem\.", ".backbone."))),
    Layout(
        "hugging face",
        renames=_HUGGING_FACE,
        left_out=((r"^pre_logits\.fc\.", _POOLER), (r"^decode(r|_head)\.", "another task's head on the backbone")),
    ),
    Layout(
        "dino training",  # the pair of networks of facebookresearch/dino's and dinov2's training checkpoints
        renames=((r"^backbone\.", ""), (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")),
        left_out=((r"^(dino_head|ibot_head|head)\.(mlp|last_layer)\.", "projection head, used in pre-training alone"),),
    ),
    Layout(
        "paddlevit",
        renames=(
            (r"^patch_embed(ding)?\.patch_embed(ding)?\.", "patch_embed.proj."),
            (r"^position_embedding$", "pos_embed"),
            (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
            (r"\.attn_norm\.", ".norm1."),
            (r"\.mlp_norm\.", ".norm2."),
            (r"\.attn\.out\.", ".attn.proj."),
            (r"^encoder\.encoder_norm\.", "norm."),
            (r"^classifier(_dist)?\.", r"head\1."),
        ),
    ),
)


def choose_layout(keys: Iterable[str], is_name: Callable[[str], bool]) -> Layout:
    """The layout under which most of ``keys`` are names (without ``#part``) that ``is_name`` knows; of equals the one
    that has most reasons for the others."""
    keys = list(keys)

    def explained(layout: Layout) -> tuple[int, int]:
        names = [layout.rename(key).partition("#")[0] for key in keys]
        others = [name for name in names if not is_name(name)]
        return len(names) - len(others), sum(layout.reason_to_leave_out(name) is not None for name in others)

    return max(LAYOUTS, key=explained)
