"""Tables of the presets and of the benchmark for the READMEs and docs/models.md; ``doc_tables.py`` places them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from paddle_cait.presets import Preset, list_presets

BENCHMARKS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "README.md"
FAMILY_HEADS = {
    "en": ("family", "models", "checkpoints", "parameters", "px", "published top-1", "by", "official files", "licence"),
    "zh": ("系列", "模型数", "权重数", "参数量", "输入尺寸（px）", "公布的 top-1", "公布者", "官方文件", "许可证"),
}  # fmt: skip
SPEED_HEADS = {
    "en": ("batch 8, images/s", "float32, ours", "timm's best", "ratio", "bf16, ours", "timm's best", "ratio"),
    "zh": ("batch 8，图像/秒", "float32，本项目", "timm 最快", "加速比", "bf16，本项目", "timm 最快", "加速比"),
}
NO_NUMBER = {"en": "none", "zh": "无"}


def by_family() -> dict[str, list[Preset]]:
    found: dict[str, list[Preset]] = {}
    for preset in list_presets():
        if preset.collection != "demo":
            found.setdefault(preset.family, []).append(preset)
    return found


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows))


def families(language: str = "en") -> str:
    """A row a family: what there is, between which numbers, and who published them."""
    rows = []
    for family, presets in by_family().items():
        numbers = [preset.published for preset in presets if preset.published]
        protocols = {"" if number.protocol == "classifier" else f" ({number.protocol})" for number in numbers}
        rows.append(
            (
                f"`{family}`",
                str(len({preset.name for preset in presets})),
                str(len(presets)),
                _range([preset.num_params / 1e6 for preset in presets], lambda value: f"{value:.0f}") + " M",
                _range([preset.preprocess.img_size for preset in presets], str),
                _range([number.top1 for number in numbers], lambda value: f"{value:.1f}") + "".join(sorted(protocols)),
                ", ".join(_ordered(number.source.split()[0] for number in numbers)),
                ", ".join(_ordered(f"`{_suffix(preset)}`" for preset in presets if preset.checkpoint)),
                ", ".join(_ordered(preset.licence for preset in presets)),
            )
        )
    return table(FAMILY_HEADS[language], rows)


def every_model() -> str:
    """A table a family with a row for each checkpoint."""
    parts = []
    for family, presets in by_family().items():
        rows = [_row(preset) for preset in presets]
        heads = ("model", "tag", "parameters", "px", "published top-1", "published by", "official file")
        parts.append(f"## {family}\n\n{table(heads, rows)}")
    return "\n\n".join(parts)


def _row(preset: Preset) -> tuple[str, ...]:
    number = preset.published
    kind = f" ({number.protocol})" if number and number.protocol != "classifier" else ""
    return (
        f"`{preset.name}`",
        f"`{preset.tag}`",
        f"{preset.num_params:,}",
        str(preset.preprocess.img_size),
        f"{number.top1:g}{kind}" if number else NO_NUMBER["en"],
        number.source if number else "",
        f"`{preset.checkpoint.filename}`" if preset.checkpoint else "",
    )


def speeds(language: str = "en") -> str:
    """The rows of batch 8 of the benchmark's own table, both precisions side by side."""
    rows: dict[str, dict[str, list[str]]] = {}
    for line in BENCHMARKS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 10 and cells[1] == "8":
            rows.setdefault(cells[0], {})[cells[2]] = [cells[3], cells[5], cells[7]]
    assert len(rows) == 5 and all(set(row) == {"fp32", "bf16"} for row in rows.values()), (
        "the benchmark's table changed"
    )
    return table(SPEED_HEADS[language], [(f"`{model}`", *row["fp32"], *row["bf16"]) for model, row in rows.items()])


def _range(values: list, say: Callable) -> str:
    low, high = say(min(values)), say(max(values))
    return low if low == high else f"{low} - {high}"


def _ordered(values) -> list[str]:
    return list(dict.fromkeys(values))


def _suffix(preset: Preset) -> str:
    return re.search(r"(\.pth)?\.[a-z]+$", preset.checkpoint.filename).group()
