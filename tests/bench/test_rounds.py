"""Turns, medians and ratios, on engines whose every step takes as long as the test says."""

import pytest

from paddle_cait.bench import rounds
from paddle_cait.bench.cases import OURS, TIMM, Case
from paddle_cait.bench.channel import WorkerError
from paddle_cait.bench.figures import plain, ratios, summary
from paddle_cait.bench.rounds import FAILED, OK, Row, Running, best, interleave, ratio
from paddle_cait.bench.run import Result, Settings


class Engine:
    """A worker without a process; it writes its name into ``diary``."""

    def __init__(self, name, diary, spent, dies_after=99):
        self.name, self.diary, self.spent, self.left = name, diary, spent, dies_after

    def ask(self, request):
        assert request["do"] == "run"
        if not self.left:
            raise WorkerError("its process was ended by SIGSEGV")
        self.left -= 1
        self.diary.append(self.name)
        return {"seconds": list(self.spent), "peak_mb": 100.0, "idle": 0.01, "cpu": 1.0}


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(rounds, "REST", 0.0)


def row(side, engine, precision="fp32", batch=2, form="", rounds=()):
    made = Row(Case(side, engine, precision, "kind", form=form), batch, images=batch)
    made.rounds = [list(spent) for spent in rounds]
    return made


def test_everyone_works_in_each_round_and_begins_in_turn():
    diary = []
    running = [Running(row(OURS, name), Engine(name, diary, [0.1])) for name in "abc"]
    interleave(running, 4, 1.0)
    assert "".join(diary) == "abcbcacababc"
    assert [len(one.row.rounds) for one in running] == [4, 4, 4]


def test_the_rest_goes_on_when_one_dies():
    diary = []
    running = [Running(row(OURS, n), Engine(n, diary, [0.1], dies_after=d)) for n, d in (("a", 9), ("b", 1), ("c", 9))]
    interleave(running, 3, 1.0)
    dead = running[1].row
    assert (dead.status, dead.reason, len(dead.rounds)) == (FAILED, "its process was ended by SIGSEGV", 1)
    assert [one.row.status for one in running] == [OK, FAILED, OK]
    assert diary.count("a") == diary.count("c") == 3
    assert best(one.row for one in running) in (running[0].row, running[2].row)


def test_medians():
    one = row(OURS, "a", rounds=[[0.5, 0.5], [0.2, 0.3], [1.0]])  # 4 images in 1 s, 4 in 0.5 s, 2 in 1 s
    assert one.speeds == pytest.approx([4.0, 8.0, 2.0])
    assert one.speed == pytest.approx(4.0) and one.spread == pytest.approx(4.0)
    assert one.latency_ms(50) == pytest.approx(500.0)
    assert one.latency_ms(90) == pytest.approx(800.0)  # of 200, 300, 500, 500, 1000: 0.6 of the last gap


def test_a_ratio_is_taken_round_by_round():
    """The machine became ten times as slow after the first round: both did, so the ratio is 2 throughout."""
    fast, slow = row(OURS, "a", rounds=[[0.1], [1.0], [1.0]]), row(TIMM, "eager", rounds=[[0.2], [2.0], [2.0]])
    assert ratio(fast, slow) == pytest.approx(2.0)
    slow.rounds.pop()  # interrupted
    assert ratio(fast, slow) == pytest.approx(2.0)
    assert ratio(fast, row(TIMM, "compile")) is None


def test_rivals():
    ours = row(OURS, "openvino", "bf16", rounds=[[0.1]])
    eager, half = row(TIMM, "eager", rounds=[[0.8]]), row(TIMM, "eager", "bf16", rounds=[[0.4]])
    compiled, other_batch = row(TIMM, "compile", "bf16", rounds=[[0.2]]), row(TIMM, "x", "bf16", 8, rounds=[[0.01]])
    dead = row(TIMM, "openvino", "bf16", rounds=[[0.001]])
    dead.stop(FAILED, "gone")
    rows = [ours, eager, half, compiled, other_batch, dead]
    assert ratios(ours, rows) == pytest.approx({"best peer": 2.0, "timm eager": 8.0})
    assert ratios(compiled, rows) == pytest.approx({"timm eager": 4.0})
    assert ratios(eager, rows) == {}


def test_forms_are_compared_within_an_engine():
    rows = [
        row(OURS, "openvino", form="matmul", rounds=[[0.3]]),
        row(OURS, "openvino", form="chain", rounds=[[0.2]]),
        row(OURS, "paddle", form="matmul", rounds=[[0.1]]),
    ]
    assert ratios(rows[1], rows) == pytest.approx({"matmul": 1.5})
    result = Result(Settings("cait_xxs24_224", forms=True), rows=rows)
    assert summary(result) == ["batch 2, fp32, openvino: chain 1.50 times as fast as matmul"]


def test_share_of_the_ceiling():
    """20 images a second of 2 x 1 G multiply-adds are 40 GFLOP/s, of the best that any library reached."""
    one = row(OURS, "openvino", rounds=[[0.1]])
    result = Result(
        Settings("cait_xxs24_224"), {"multiply_adds": {"linear": 700_000_000, "product": 300_000_000}}, [one]
    )
    result.ceilings = {("numpy", "fp32"): [90.0, 100.0], ("torch", "fp32"): [50.0], ("torch", "bf16"): [800.0]}
    one.idle, one.peak_mb = [0.0], 1.0
    found = plain(result)["rows"][0]
    assert found["share_of_ceiling"] == pytest.approx(0.4)
    assert found["images_per_second"] == pytest.approx(20.0)
