"""The conductor: prepares, checks, times, in this order. It imports no framework itself."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait import runtime
from paddle_cait.bench import cases as all_cases
from paddle_cait.bench import machine
from paddle_cait.bench.cases import Case
from paddle_cait.bench.channel import AbsentError, Channel, WorkerError
from paddle_cait.bench.check import compare, refusal
from paddle_cait.bench.prepare import Sources
from paddle_cait.bench.rounds import FAILED, LEFT_OUT, REFUSED, REST, Row, Running, interleave
from paddle_cait.bench.work import EXPECTED
from paddle_cait.errors import ConfigError
from paddle_cait.presets import get_preset

log = logging.getLogger("paddle_cait")

Progress = Callable[[Any], Iterable[Any]]
_SPREAD, _OTHERS = 1.3, 0.05  # what is noise: max/min over rounds; share of the machine used by other processes
_CEILING_SECONDS = 1.5


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and how long. ``ceiling``: the side of the large product; 0 leaves it out."""

    model: str
    preset_file: str | None = None
    weights: str | None = None
    entry: str | None = None
    engines: tuple[str, ...] = tuple(all_cases.ENGINES)
    peers: tuple[str, ...] = tuple(all_cases.PEERS)
    precisions: tuple[str, ...] = all_cases.PRECISIONS
    batch_sizes: tuple[int, ...] = (1, 8)
    threads: int = 1
    rounds: int = 7
    seconds: float = 1.0
    steps: str = "inference"
    forms: bool = False
    data_dir: str | None = None
    calib_dir: str | None = None
    calib_images: int = 300
    export_dir: str | None = None
    ceiling: int = 4096
    quiet_wait: float = 0.0

    def cases(self) -> list[Case]:
        """The rows to come. Raises :class:`ConfigError` for settings that make no sense."""
        preset = get_preset(self.model, self.preset_file)
        if self.steps == "training":
            if not preset.num_classes:
                raise ConfigError(f"{self.model} has no classes, so there is no loss to train it with")
            return all_cases.training_cases()
        if self.steps == "pipeline":
            if not self.data_dir:
                raise ConfigError("--steps pipeline needs --data-dir: a folder of JPEG files")
            return all_cases.pipeline_cases()
        if self.forms:
            if preset.family != "cait":
                raise ConfigError(f"--forms compares the ways to mix CaiT's heads, which {self.model} does not")
            return all_cases.form_cases(self.engines, self.precisions)
        return all_cases.inference_cases(self.engines, self.peers, self.precisions)


@dataclasses.dataclass
class Result:
    """``facts`` of the model, ``ceilings`` (library, precision) -> GFLOP/s before and after the rounds."""

    settings: Settings
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    ceilings: dict[tuple[str, str], list[float]] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)
    load: float = 0.0
    interrupted: bool = False

    def ceiling(self, precision: str) -> float | None:
        """The best GFLOP/s that anything reached in this precision."""
        found = [rate for (_, p), rates in self.ceilings.items() if p == precision for rate in rates]
        return max(found, default=None)


def bench(settings: Settings, progress: Progress = iter) -> Result:
    """Measure everything that ``settings`` ask for. Ctrl-C ends it early: what was measured until then is returned.

    Raises :class:`ConfigError` before any work, :class:`PaddleCaitError` where the model itself cannot be made.
    """
    chosen = settings.cases()
    if not chosen:
        raise ConfigError("nothing to measure: none of these engines and peers computes in these precisions")
    if settings.steps == "pipeline":  # Pillow's functions use one core, and take one image
        settings = dataclasses.replace(settings, threads=1, batch_sizes=(1,))
    result = Result(settings, load=machine.wait_until_quiet(settings.quiet_wait))
    if found := machine.too_busy(result.load):
        _warn(result, found)
    with tempfile.TemporaryDirectory(prefix="paddle_cait_bench_") as scratch:
        try:
            _Conductor(settings, result, Path(scratch), progress).conduct(chosen)
        except KeyboardInterrupt:
            result.interrupted = True
    return result


class _Conductor:
    def __init__(self, settings: Settings, result: Result, scratch: Path, progress: Progress) -> None:
        self.settings, self.result, self.scratch, self.progress = settings, result, scratch, progress
        self.threads = settings.threads
        told = ("model", "preset_file", "weights", "entry", "calib_dir", "calib_images", "data_dir")
        self.spec: dict[str, Any] = {name: getattr(settings, name) for name in told}
        self.spec.update(folder=str(scratch), threads=self.threads)

    def conduct(self, chosen: list[Case]) -> None:
        exported = self.settings.steps == "inference"
        if self.settings.steps != "pipeline":
            log.info("preparing weights, images and expected logits")
            with Channel({**self.spec, "kind": "reference"}, self.threads, self.scratch) as worker:
                self.result.facts = worker.ready
        kept = Path(self.settings.export_dir) / self.settings.model if self.settings.export_dir else None
        self.sources = Sources(self.spec, self.scratch / "sources", self.result.facts.get("state", ""), kept)
        if exported:
            for name in dict.fromkeys(case.source for case in chosen if case.source and not case.missing):
                with contextlib.suppress(WorkerError):  # it becomes the reason in the rows
                    self.sources.get(name)
            self._ceilings()
        for batch in self.settings.batch_sizes:
            self._group(chosen, batch)
        if exported:
            self._ceilings()

    def _group(self, chosen: list[Case], batch: int) -> None:
        """All cases at one batch size: prepared, checked, then timed in turn."""
        rows = [Row(case, batch) for case in chosen]
        self.result.rows += rows
        with contextlib.ExitStack() as stack:
            running = [one for row in rows if (one := self._start(row, stack)) is not None]
            self._check(running)
            before = self._clocks(rows)
            try:
                interleave(running, self.settings.rounds, self.settings.seconds, self.progress)
            finally:  # an interrupted measurement is judged too
                busy, own, passed = (now - then for now, then in zip(self._clocks(rows), before))
                self._judge(rows, (busy - own) / max(passed * runtime.cores(), 1e-9))

    @staticmethod
    def _clocks(rows: list[Row]) -> tuple[float, float, float]:
        """Core seconds of all processes and of ours, and the wall's."""
        return machine.busy_seconds(), time.process_time() + sum(row.cpu for row in rows), time.monotonic()

    def _start(self, row: Row, stack: contextlib.ExitStack) -> Running | None:
        case = row.case
        if case.missing:
            row.stop(LEFT_OUT, f"{case.missing} is not installed")
            return None
        log.info("preparing %s, batch %d", row.name, row.batch)
        try:
            worker = stack.enter_context(Channel(self._spec(case, row.batch), self.threads, self.scratch))
        except WorkerError as error:
            row.stop(LEFT_OUT if isinstance(error, AbsentError) else FAILED, str(error))
            log.info("  %s: %s", row.status, error)
            return None
        row.settings, row.images = worker.ready["settings"], worker.ready["images"]
        return Running(row, worker)

    def _spec(self, case: Case, batch: int) -> dict[str, Any]:
        spec = {**self.spec, **case.options, "kind": case.kind, "precision": case.precision, "batch": batch}
        if case.source:
            source = self.sources.get(case.source)
            spec.update(source=str(source.folder), files=source.files[case.format], format=case.format)
        return spec

    def _check(self, running: list[Running]) -> None:
        """Compare with the reference: the model's logits, or what the first one gives where there are none."""
        expected = np.load(self.scratch / EXPECTED) if self.settings.steps == "inference" else None
        for one in running:
            row, file = one.row, self.scratch / "found.npy"
            try:
                row.cpu = one.worker.ask({"do": "check", "file": str(file)})["cpu"]
            except WorkerError as error:
                row.stop(FAILED, str(error))
                log.info("%s: %s", row.name, error)
                continue
            found = np.load(file)
            expected = found if expected is None else expected
            row.agreement = compare(found, expected)
            if why := refusal(row.agreement, row.case.precision):
                row.stop(REFUSED, why)
                log.info("%s: %s", row.name, why)
                one.worker.end()

    def _judge(self, rows: list[Row], others: float) -> None:
        """Say what makes these numbers doubtful."""
        where = f"batch {rows[0].batch}"
        uneven = [f"{row.name} {row.spread:.2f}" for row in rows if row.spread > _SPREAD]
        if uneven:
            _warn(self.result, f"{where}: fastest round over slowest above {_SPREAD}: {', '.join(uneven)}")
        awake = [f"{row.name} {max(row.idle):.1f} s" for row in rows if max(row.idle, default=0) > REST * self.threads]
        if awake:
            _warn(self.result, f"{where}: used the processor while others were timed: {', '.join(awake)}")
        if others > _OTHERS:
            _warn(self.result, f"{where}: other processes used {others:.0%} of the machine meanwhile")

    def _ceilings(self) -> None:
        """Every library's large product, one process after the other."""
        if not self.settings.ceiling:
            return
        for case in all_cases.ceiling_cases(self.settings.precisions):
            if case.missing:
                continue
            log.info("measuring a product of matrices in %s %s", case.engine, case.precision)
            spec = {"kind": case.kind, "precision": case.precision, "side": self.settings.ceiling}
            try:
                with Channel(spec, self.threads, self.scratch) as worker:
                    spent = worker.ask({"do": "run", "seconds": _CEILING_SECONDS})["seconds"]
            except WorkerError as error:
                log.info("  %s", error)
                continue
            rate = 2 * self.settings.ceiling**3 / min(spent) / 1e9
            self.result.ceilings.setdefault((case.engine, case.precision), []).append(rate)


def _warn(result: Result, text: str) -> None:
    log.warning("%s", text)
    result.warnings.append(text)
