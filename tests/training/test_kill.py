"""``kill -9`` at any step, of one process or two: the resumed run ends with the same bits."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from make_run import ENV, assert_same_run, draw_photos, in_processes, log_rows, run_command, words

KILLS = 10
# Everything that is random or counted: EMA, mixup, erasing, stochastic depth, accumulation, states within an epoch,
# and images that cannot be read.
SETTINGS = ["--epochs", "4", "-j", "2", "-b", "2", "--grad-accum-steps", "2", "--checkpoint-updates", "3",
            "--model-ema", "--model-ema-decay", "0.9", "--mixup", "0.8", "--cutmix", "1", "--reprob", "0.5",
            "--layer-decay", "0.8", "--no-check", "--on-error", "skip"]  # fmt: skip
TOLD = """
import os, sys
sys.path.insert(0, {root!r})
from paddle_cait import runtime
from paddle_cait.cli.main import run_verb

runtime.prepare("cpu")  # as the command does, before Paddle is imported: other kernels give other bits
from paddle_cait.training.run import Run

original = Run._update

def _update(self, update, *rest):
    if self.rank == 0:
        with open({steps!r}, "a") as file:
            file.write(f"{{self.epoch * self.plan.updates + update}}\\n")
    return original(self, update, *rest)

Run._update = _update
sys.exit(run_verb("finetune"))
"""


def descendants(pid):
    """A process and all below it: the launcher gives each process that it starts a group of its own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def kill_all(process):
    """The launcher first, so that it cannot tell the others; workers too."""
    victims = descendants(process.pid)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    for _ in range(100):  # those below it are another's children now, and gone as soon as they are reaped
        left = [pid for pid in victims if Path(f"/proc/{pid}/cmdline").exists() and _runs(pid)]
        if not left:
            return victims
        time.sleep(0.05)
    raise AssertionError(f"still there: {left}")


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def last_step(steps):
    return int(steps.read_text().split()[-1]) if steps.exists() and steps.stat().st_size else -1


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_kill_nine_at_ten_random_steps(number, start, tmp_path):
    photos = draw_photos(tmp_path / "photos", train=8 * 4 * number)  # 24 updates an epoch
    for name in ("blue/03.png", "green/07.png", "green/20.png", "red/11.png"):
        (photos / name).write_bytes(b"")
    script, steps, folder = tmp_path / "told.py", tmp_path / "steps", tmp_path / "cut"
    script.write_text(TOLD.format(root=ENV["PYTHONPATH"], steps=str(steps)))
    run_command(words(start, photos, tmp_path / "whole", *SETTINGS), tmp_path, number)
    rng = np.random.default_rng(number)
    targets = sorted(rng.choice(96, KILLS, replace=False).tolist())
    killed = []
    for target in targets:
        resume = ["--resume"] if (folder / "last.state.safetensors").exists() else []
        given = words(start, photos, folder, *SETTINGS, *resume)
        process = subprocess.Popen(
            in_processes(given, tmp_path / "log", number, script),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV, cwd=tmp_path,
        )  # fmt: skip
        steps.write_text("")
        while last_step(steps) < target:
            assert process.poll() is None, f"ended with {process.returncode} before update {target}"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))  # forward, backward, evaluation, or a file half written
        victims = kill_all(process)
        killed.append(last_step(steps))
        for segment in Path("/dev/shm").glob("paddle_*"):  # what Paddle's workers leave behind when they are killed
            if int(segment.name.split("_")[1]) in victims:
                segment.unlink()
        assert not list(folder.glob(".*")), sorted(os.listdir(folder))
    run_command(words(start, photos, folder, *SETTINGS, "--resume"), tmp_path, number)
    assert_same_run(tmp_path / "whole", folder)
    assert {row["unreadable"] for row in log_rows(folder)} == {"4"}
    print(f"{number} process(es): killed at updates {killed} of 96")
