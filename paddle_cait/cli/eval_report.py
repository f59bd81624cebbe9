"""An evaluation for people (text, Markdown, CSV) and machines. Measured and published stand in different columns."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from paddle_cait.engine.metrics import TOP, Rows
from paddle_cait.engine.result import EvalResult
from paddle_cait.engine.verdict import Verdict
from paddle_cait.files import PathLike, write_atomic
from paddle_cait.presets import Preset, Published

NO_FILE, NO_FIT = "NO FILE", "DOES NOT FIT"


def prepared(result: Any) -> str:
    """How the images were prepared, in a line."""
    pre = result.preprocess
    if pre is None:
        return "unknown"
    return f"{pre.img_size} px, crop {pre.crop_pct:g} {pre.crop_mode}, {pre.interpolation}, {result.backend}"


def computed(result: EvalResult) -> str:
    """What computed the logits, in a line."""
    run = result.runtime
    parts = [f"{result.engine} {run.get('version', '')}".rstrip(), result.precision]
    if "threads" in run:
        parts.append(f"{run['threads']} thread{'' if run['threads'] == 1 else 's'}")
    if "onednn" in run:
        parts.append(f"oneDNN {'on' if run['onednn'] else 'off'}")
    parts += [f"{name} sha256 {sha256[:16]}" for name, sha256 in run.get("files", {}).items()]
    return ", ".join(parts)


def text(result: EvalResult, number: Published | None, verdict: Verdict) -> str:
    """The result on a screen; its last line is the verdict."""
    published = "" if number is None else f"   published {number.top1:.3f}"
    published5 = "" if number is None or number.top5 is None else f"   published {number.top5:.3f}"
    lines = [
        f"{result.model}  {result.weights_file}  sha256 {result.weights_sha256[:16]}",
        f"  images      {result.n:,} of {result.dataset['images']:,} ({result.dataset.get('description', 'dataset')})",
        f"  prepared    {prepared(result)}",
        f"  computed    {computed(result)}",
        f"  top-1       {result.top1:.3f} ({result.top1_correct}/{result.n}){published}",
        f"  top-5       {result.top5:.3f} ({result.top5_correct}/{result.n}){published5}",
        f"  loss        {result.loss:.4f}",
        f"  speed       {result.images_per_second:.1f} images/s on {result.device}, {result.processes} process(es)",
    ]
    lines += [f"  skipped     {message}" for _, message in result.skipped[:10]]
    if len(result.skipped) > 10:
        lines.append(f"  skipped     ... and {len(result.skipped) - 10} more; --json lists all")
    lines += [f"  note        {note}" for note in result.notes]
    return "\n".join([*lines, str(verdict)])


def plain(result: EvalResult, preset: Preset, number: Published | None, verdict: Verdict) -> dict[str, Any]:
    """The result for JSON."""
    return {
        **result.as_dict(),
        "published": dataclasses.asdict(number) if number else None,
        "verdict": dataclasses.asdict(verdict),
        "licence": preset.licence,
    }


def absent(preset: Preset, status: str = NO_FILE, reason: str = "not measured") -> dict[str, Any]:
    """A suite's row for a preset that was not measured."""
    published = dataclasses.asdict(preset.published) if preset.published else None
    return {
        "model": preset.full_name,
        "published": published,
        "verdict": {"status": status, "reason": reason},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A suite as a Markdown table."""
    head = (
        "model",
        "images",
        "measured top-1",
        "measured top-5",
        "published top-1",
        "published top-5",
        "verdict",
        "images/s",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        number = row["published"] or {}
        measured = ("-", "-", "-", "-")
        if "n" in row:
            speed = f"{row['images_per_second']:.1f}"
            measured = (f"{row['n']:,}", f"{row['top1']:.3f} ({row['top1_correct']})", f"{row['top5']:.3f}", speed)
        published = [f"{number[key]:.3f}" if number.get(key) is not None else "-" for key in ("top1", "top5")]
        cells = (row["model"], *measured[:3], *published, row["verdict"]["status"], measured[3])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_table(stem: Path, rows: list[dict[str, Any]]) -> None:
    """``stem.md`` and ``stem.json``."""
    write_atomic(stem.with_name(stem.name + ".md"), table(rows).encode() + b"\n")
    write_atomic(
        stem.with_name(stem.name + ".json"),
        json.dumps(rows, indent=2, ensure_ascii=False, default=str).encode() + b"\n",
    )


def write_predictions(path: PathLike, rows: Rows, names: list[str] | None) -> None:
    """One CSV row an image, in the order of the list. Skipped images have no row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["index", "file", "label", *(f"top{k + 1}" for k in range(TOP)), "probability", "loss"])
    for i in range(len(rows)):
        index = int(rows.index[i])
        numbers = [f"{rows.probability[i]:.6f}", f"{rows.loss[i]:.6f}"]
        name = names[index] if names else ""
        writer.writerow([index, name, int(rows.label[i]), *rows.top[i].tolist(), *numbers])
    write_atomic(path, buffer.getvalue().encode())
