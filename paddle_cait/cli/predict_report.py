"""Predictions for people (table), spreadsheets (CSV) and machines (JSON)."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Callable

from paddle_cait.versions import versions

Rows = list[dict[str, Any]]


def table(rows: Rows, plain: dict[str, Any]) -> str:
    """A block an image: percent, label and name of each class."""
    lines = []
    for row in rows:
        lines.append(row["path"])
        if row["error"]:
            lines.append("  could not be read")
        elif "features" in row:
            lines.append(f"  {len(row['features'])} features; --format json or csv holds them")
        else:
            for label, name, probability in zip(row["labels"], row["names"], row["probabilities"]):
                lines.append(f"  {100 * probability:6.2f}%  {label:>5}{'' if name == str(label) else f'  {name}'}")
    return "\n".join(lines) + "\n"


def as_csv(rows: Rows, plain: dict[str, Any]) -> str:
    """One row an image: its path, then label, name and probability of each class (or its features), then the error."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if "features" in rows[0]:
        width = max(len(row["features"]) for row in rows)
        writer.writerow(["path", *(f"f{i}" for i in range(width)), "error"])
        for row in rows:
            writer.writerow([row["path"], *(row["features"] or [""] * width), row["error"] or ""])
        return buffer.getvalue()
    width = max(len(row["labels"]) for row in rows)
    heads = [[f"label{k + 1}", f"name{k + 1}", f"probability{k + 1}"] for k in range(width)]
    writer.writerow(["path", *(head for some in heads for head in some), "error"])
    for row in rows:
        cells = [(la, name, f"{p:.6f}") for la, name, p in zip(row["labels"], row["names"], row["probabilities"])]
        cells += [("", "", "")] * (width - len(cells))
        writer.writerow([row["path"], *(cell for some in cells for cell in some), row["error"] or ""])
    return buffer.getvalue()


def as_json(rows: Rows, plain: dict[str, Any]) -> str:
    """What ``--json`` writes."""
    return json.dumps({"versions": versions(), **plain}, indent=2, ensure_ascii=False, default=str) + "\n"


FORMATS: dict[str, Callable[[Rows, dict[str, Any]], str]] = {"table": table, "json": as_json, "csv": as_csv}
