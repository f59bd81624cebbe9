"""The parts of the pages that are made from the code, between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

``python tests/docs/doc_tables.py`` writes them anew; ``test_tables.py`` holds them equal.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from model_tables import every_model, families, speeds

from paddle_cait.models import cait, gcvit, resnetv2, vit
from paddle_cait.presets import Preprocess, list_presets

ROOT = Path(__file__).resolve().parents[2]
OPEN_TO_ALL = {"errors", "files", "versions", "presets"}


def arrows_table() -> dict[str, set[str]]:
    """``ARROWS`` of tests/test_arrows.py: room -> rooms it may import."""
    spec = importlib.util.spec_from_file_location("arrows_of_the_test", ROOT / "tests" / "test_arrows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ARROWS


def arrows() -> str:
    """A line a room, each below those it may import; rooms of one depth stand together."""
    table = {room: set(known) - {room} for room, known in arrows_table().items() if not room.startswith("__")}
    depth: dict[str, int] = {}
    while len(depth) < len(table):
        free = [room for room in table if room not in depth and table[room] <= depth.keys()]
        assert free, f"a circle among {set(table) - depth.keys()}"
        depth.update({room: 1 + max((depth[one] for one in table[room]), default=-1) for room in free})
    width = max(map(len, table))
    order = sorted(table, key=lambda room: (depth[room], room))
    lines, last = ["```text"], 0
    for room in order:
        known = table[room] - OPEN_TO_ALL if table[room] >= OPEN_TO_ALL else table[room]
        lines += [""] if depth[room] != last else []
        last = depth[room]
        lines.append(f"{room:<{width}}  {'->' if known else ''} {' '.join(sorted(known, key=order.index))}".rstrip())
    return "\n".join([*lines, "```"])


def preprocessing() -> str:
    """A row for the models of a family that are prepared alike."""
    rows: dict[tuple[str, ...], list] = {}
    for preset in list_presets():
        if preset.collection != "demo":
            settings = preset.settings
            mean = "0.5" if set(preset.preprocess.mean) == {0.5} else "ImageNet"
            key = (preset.family, _say(settings["official"]), _say(settings["timm"]), mean)
            rows.setdefault(key, []).append(preset)
    lines = ["| family | models | the authors' | timm's | mean, deviation |", "| --- | --- | --- | --- | --- |"]
    for (family, official, timm, mean), presets in rows.items():
        other = "the same" if timm == official else timm
        lines.append(f"| `{family}` | {_models(family, presets, rows.values())} | {official} | {other} | {mean} |")
    return "\n".join(lines)


def _models(family: str, presets: list, rows: Iterable[list]) -> str:
    """By image size where that tells them apart, as the others of a size, by tag, or by name."""
    every = [preset for preset in list_presets() if preset.family == family]
    own, sizes = _full_names(presets), {preset.preprocess.img_size for preset in presets}
    of_sizes = {preset.full_name for preset in every if preset.preprocess.img_size in sizes}
    said = ", ".join(map(str, sorted(sizes))) + " px"
    if of_sizes == own:
        return said
    rivals = [row for row in rows if row is not presets and _full_names(row) & of_sizes]
    if all(len(row) < len(presets) and _full_names(row) <= of_sizes for row in rivals):
        return f"the other {said}"
    names: dict[str, None] = {}
    for preset in presets:
        short = preset.name.removeprefix(f"{family}_")
        if {one.full_name for one in every if one.name == preset.name} <= own:
            names[f"`{short}`"] = None
        elif {one.full_name for one in every if one.tag == preset.tag} <= own:
            names[f"`*.{preset.tag}`"] = None
        else:
            names[f"`{short}.{preset.tag}`"] = None
    return ", ".join(names)


def _full_names(presets: Iterable) -> set[str]:
    return {preset.full_name for preset in presets}


def _say(how: Preprocess) -> str:
    size = "squash" if how.crop_mode == "squash" else f"centre {how.crop_pct:g}"
    return f"{size}, {how.interpolation}"


def constants() -> str:
    """Epsilons as the models have them."""
    flax, timm = resnetv2.CONSTANTS["flax"], resnetv2.CONSTANTS["timm"]
    rows = [
        ("CaiT", "layer norm", f"{cait.EPSILON:g}"),
        ("ViT, DeiT, DeiT III, DINO, DINOv2, hybrids", "layer norm", f"{vit.EPSILON:g}"),
        ("GCViT", "layer norm", f"{gcvit.EPSILON:g}"),
    ]
    for name, own in (("`flax`, the authors'", flax), ("`timm`", timm)):
        rows.append((f"hybrids, constants {name}", "group norm of 32 groups", f"{own.norm_epsilon:g}"))
        where = "under the root" if own.under_root else "added to the deviation"
        rows.append((f"hybrids, constants {name}", "standardised filters", f"{own.std_epsilon:g}, {where}"))
    lines = ["| model | where | epsilon |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {model} | {where} | {value} |" for model, where, value in rows])


# Page -> what stands between its marks.
BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"models": families, "speeds": speeds},
    "README_zh.md": {"models": partial(families, "zh"), "speeds": partial(speeds, "zh")},
    "docs/architecture.md": {"arrows": arrows},
    "docs/models.md": {"models": every_model},
    "docs/numerics.md": {"preprocessing": preprocessing, "constants": constants},
}


def part(name: str, text: str) -> re.Match[str]:
    """Where block ``name`` stands in a page's text."""
    found = re.search(rf"(<!-- begin {name} -->\n)(.*?)\n?(<!-- end {name} -->)", text, re.S)
    assert found, f"no block {name}"
    return found


if __name__ == "__main__":
    for page, made in BLOCKS.items():
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        for name, make in made.items():
            place = part(name, text)
            text = f"{text[: place.start()]}{place[1]}\n{make()}\n\n{place[3]}{text[place.end() :]}"
        path.write_text(text, encoding="utf-8")
