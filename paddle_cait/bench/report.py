"""Tables for people: on the terminal, and as a page for docs/benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TITLES = {"inference": "inference", "training": "one training step", "pipeline": "input pipeline on one core"}


def text(plain: dict[str, Any], summary: list[str]) -> str:
    """For a terminal."""
    lines: list[str] = []
    for batch, rows, untimed in _groups(plain):
        cells = _table(rows) if rows else []
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines += [f"batch {batch}"]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        lines += [*untimed, ""]
    return "\n".join([*lines, *_facts(plain), *summary])


def page(plain: dict[str, Any], summary: list[str], versions: dict[str, str], date: str, command: str) -> str:
    """A whole Markdown file. It says what was measured, on what, by which command, and nothing more."""
    machine, settings = plain["machine"], plain["settings"]
    flags = f", {', '.join(machine['flags'])}" if machine["flags"] else ""
    memory = f", {machine['memory_gb']} GB" if machine["memory_gb"] else ""
    out = [
        f"# {plain['model']}: {_TITLES[settings['steps']]}{', ways to mix heads' if settings['forms'] else ''}",
        "",
        f"Measured on {date} by `{command}`. [How to read it and how to repeat it](README.md).",
        "",
        *(f"- {line[0].upper()}{line[1:]}" for line in summary),
        f"- Machine: {machine['cpu']}, {machine['cores']} cores{flags}{memory}, {machine['system']}; load average at "
        f"the start {machine['load_at_start']:.2f}",
        f"- Threads: {settings['threads']}; {settings['rounds']} interleaved rounds of {settings['seconds']} s",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
        *(f"- {line}" for line in _facts(plain)),
    ]
    for batch, rows, untimed in _groups(plain):
        out += ["", f"## Batch {batch}"]
        if rows:
            header, *body = _table(rows)
            out += ["", _markdown(header), _markdown(["---"] * len(header)), *map(_markdown, body)]
        out += ["", *(f"- {line}" for line in untimed)] if untimed else []
    return "\n".join(out) + "\n"


def _groups(plain: dict[str, Any]) -> Iterator[tuple[int, list[dict[str, Any]], list[str]]]:
    """(batch size, rows that were timed, a line for each of the others); by precision, the fastest first."""
    precisions = list(dict.fromkeys(row["precision"] for row in plain["rows"]))
    for batch in dict.fromkeys(row["batch"] for row in plain["rows"]):
        rows = [row for row in plain["rows"] if row["batch"] == batch]
        timed = [row for row in rows if row["status"] == "ok" and "images_per_second" in row]
        timed.sort(key=lambda row: (precisions.index(row["precision"]), -row["images_per_second"]))
        others = [row for row in rows if row not in timed]
        yield (
            batch,
            timed,
            [f"{r['who']} {r['precision']}: {r['status']}: {r['reason'] or 'not timed'}" for r in others],
        )


def _table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The header and the cells."""
    rivals = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    header = ["who", "precision", "images/s", "min-max", "ms", "p90 ms", *(f"x {name}" for name in rivals)]
    cells = [[*header, "of ceiling", "peak MB", "agreement"], *(_cells(row, rivals) for row in rows)]
    used = [any(column) for column in zip(*cells[1:])]
    return [[cell for cell, wanted in zip(row, used) if wanted] for row in cells]


def _cells(row: dict[str, Any], rivals: list[str]) -> list[str]:
    ratios = [f"{row['ratios'][name]:.2f}" if name in row["ratios"] else "" for name in rivals]
    share = row["share_of_ceiling"]
    return [
        row["who"],
        row["precision"],
        _number(row["images_per_second"]),
        f"{_number(row['slowest_round'])}-{_number(row['fastest_round'])}",
        _number(row["latency_ms"]["median"]),
        _number(row["latency_ms"]["p90"]),
        *ratios,
        "" if share is None else f"{share:.0%}",
        f"{row['peak_mb']:.0f}",
        _agreement(row["agreement"]),
    ]


def _agreement(found: dict[str, Any]) -> str:
    """``equal``, or ``1e-02, top-1 7/8``: the largest difference, and how many images keep their best class."""
    top1 = "" if found["top1_equal"] is None else f", top-1 {found['top1_equal']}/{found['images']}"
    return f"{found['difference']:.0e}{top1}" if found["difference"] else "equal"


def _facts(plain: dict[str, Any]) -> Iterator[str]:
    """Lines about the model, the machine's ceiling, and what is to be held against the numbers."""
    facts = plain["facts"]
    if facts:
        each = ", ".join(f"{name} {value / 1e9:.3f}" for name, value in facts["multiply_adds"].items())
        total = sum(facts["multiply_adds"].values()) / 1e9
        origin = facts["weights"]
        weights = origin["origin"] + (f", sha256 {origin['sha256'][:16]}" if "sha256" in origin else "")
        yield f"Model: {2 * total:.3f} GFLOP an image ({total:.3f} G multiply-adds: {each}); weights: {weights}"
    if plain["ceilings_gflops"]:
        side, found = plain["settings"]["ceiling"], plain["ceilings_gflops"]
        rates = "; ".join(
            f"{one['library']} {one['precision']} {' and '.join(f'{rate:.0f}' for rate in one['rates'])}"
            for one in found
        )
        yield f"Ceiling: GFLOP/s of a {side}-cubed product, before and after: {rates}; the best of a precision counts"
    if plain["interrupted"]:
        yield "Interrupted: fewer rounds than asked for"
    for warning in plain["warnings"]:
        yield f"Noise: {warning}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
