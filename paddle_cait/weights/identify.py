"""Which presets a file's tensors fit, told from the shapes that tell presets apart."""

from __future__ import annotations

import re
from typing import Any

from paddle_cait.presets import list_presets


def likely_presets(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Names of the presets whose width, depth, position table and number of classes a file's tensors have."""
    facts = _arch_of(shapes)
    fits = []
    for preset in list_presets():
        arch: dict[str, Any] = preset.arch
        side = arch["img_size"] // arch["patch_size"]
        expected = (preset.family, arch["embed_dim"], arch["depth"], side * side, arch["num_classes"])
        if facts is not None and facts == expected and preset.name not in fits:
            fits.append(preset.name)
    return fits


def _arch_of(shapes: dict[str, tuple[int, ...]]) -> tuple[Any, ...] | None:
    blocks = {int(m.group(1)) for m in (re.match(r"blocks\.(\d+)\.", str(name)) for name in shapes) if m}
    table, bias = shapes.get("pos_embed", ()), shapes.get("head.bias", ())
    if (
        not blocks
        or len(table) != 3
        or len(bias) != 1
        or not any(str(n).startswith("blocks_token_only.") for n in shapes)
    ):
        return None
    return ("cait", table[2], max(blocks) + 1, table[1], bias[0])
