"""A result as plain numbers: what tables are made from, and what ``--json`` writes."""

from __future__ import annotations

import dataclasses
from typing import Any

from paddle_cait.bench import machine
from paddle_cait.bench.cases import FORMS, OURS, TIMM
from paddle_cait.bench.channel import without_paths
from paddle_cait.bench.rounds import OK, Row, best, ratio
from paddle_cait.bench.run import Result
from paddle_cait.versions import installed, versions

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "openvino", "paddle2onnx", "nncf", "pillow")
_PATHS = ("weights", "preset_file", "data_dir", "calib_dir", "export_dir")
_EAGER = (TIMM, "eager", "fp32")


def plain(result: Result) -> dict[str, Any]:
    """Everything but versions and the date, which belong to whoever writes it."""
    told = dataclasses.asdict(result.settings)
    told.update({name: without_paths(told[name]) for name in _PATHS if told[name]})
    return {
        "model": result.facts.get("model", result.settings.model),
        "settings": told,
        "machine": {**machine.describe(), "load_at_start": result.load},
        "facts": result.facts,
        "ceilings_gflops": [
            {"library": library, "precision": precision, "rates": rates, "best": max(rates)}
            for (library, precision), rates in result.ceilings.items()
        ],
        "rows": [_row(row, result) for row in result.rows],
        "warnings": result.warnings,
        "interrupted": result.interrupted,
    }


def package_versions() -> dict[str, str]:
    """Of everything that a speed may depend on."""
    return {**versions(), **{name: version for name in _PACKAGES if (version := installed(name)) is not None}}


def _row(row: Row, result: Result) -> dict[str, Any]:
    case = row.case
    found: dict[str, Any] = {
        "who": case.label,
        "side": case.side,
        "engine": case.engine,
        "precision": case.precision,
        "form": case.form or None,
        "batch": row.batch,
        "status": row.status,
        "reason": row.reason or None,
        "settings": row.settings,
        "agreement": dataclasses.asdict(row.agreement) if row.agreement else None,
    }
    if not row.rounds:
        return found
    return {
        **found,
        "images_per_second": row.speed,
        "slowest_round": min(row.speeds),
        "fastest_round": max(row.speeds),
        "rounds": row.speeds,
        "latency_ms": {"median": row.latency_ms(50), "p90": row.latency_ms(90)},
        "ratios": ratios(row, result.rows),
        "share_of_ceiling": _share(row, result),
        "peak_mb": row.peak_mb,
        "idle_cpu_seconds": max(row.idle),
    }


def ratios(row: Row, rows: list[Row]) -> dict[str, float]:
    """Against whom -> how many times as fast, at the same batch size.

    Of an engine of ours: the best peer in the same precision. Of any: timm eager in float32. Of a form: the form
    ``matmul`` in the same engine and precision.
    """
    others = [other for other in rows if other.batch == row.batch and other is not row]
    same = [other for other in others if other.case.precision == row.case.precision]
    peers = [other for other in same if other.case.side != OURS and not other.case.form]
    rivals: dict[str, Row | None] = {}
    if row.case.form:
        rivals["matmul"] = best(r for r in same if r.case.engine == row.case.engine and r.case.form == "matmul")
    elif row.case.side == OURS:
        rivals["best peer"] = best(peers)
    rivals["timm eager"] = best(
        r for r in others if (r.case.side, r.case.engine, r.case.precision) == _EAGER and not r.case.form
    )
    found = {name: ratio(row, rival) for name, rival in rivals.items() if rival is not None}
    return {name: value for name, value in found.items() if value is not None}


def summary(result: Result) -> list[str]:
    """One line for each batch size and precision: our fastest beside their fastest, or one form beside the other."""
    lines = []
    for batch, precision in dict.fromkeys((row.batch, row.case.precision) for row in result.rows):
        group = [row for row in result.rows if (row.batch, row.case.precision) == (batch, precision)]
        mine = best(row for row in group if row.case.side == OURS)
        theirs = best(row for row in group if row.case.side != OURS)
        if result.settings.forms:
            lines += [_form(row, group, batch) for row in group if row.case.form == FORMS[-1] and row.rounds]
        if mine is None or theirs is None:
            continue
        value = ratio(mine, theirs)
        lines.append(
            f"batch {batch}, {precision}: {mine.case.label} {mine.speed:.1f} images/s, {theirs.case.label} "
            f"{theirs.speed:.1f}: {value:.2f} times as fast"
        )
    return lines


def _form(row: Row, group: list[Row], batch: int) -> str:
    value = ratios(row, group).get("matmul")
    speed = "alone" if value is None else f"{value:.2f} times as fast as matmul"
    return f"batch {batch}, {row.case.precision}, {row.case.engine}: {row.case.form} {speed}"


def _share(row: Row, result: Result) -> float | None:
    """Of the rate of a large product, were the published model's arithmetic all there is to do."""
    rate, counted = result.ceiling(row.case.precision), result.facts.get("multiply_adds")
    if rate is None or counted is None or row.status != OK or result.settings.steps != "inference":
        return None
    return row.speed * 2 * sum(counted.values()) / (rate * 1e9)
