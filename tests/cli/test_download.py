"""`paddle-cait download` as people type it."""

import json

import pytest
from helpers import draw_state, npz, official_shapes, preset
from http_server import Server, says

from paddle_cait.cli.main import VERBS, run_verb
from paddle_cait.presets import list_models, list_presets


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "PADDLE_CAIT_MIRROR", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PADDLE_CAIT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(VERBS, "download", ("download", "fetch the authors' checkpoint of a preset, checked"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A file of one's own presets, and the bytes of its checkpoint."""
    folder = tmp_path_factory.mktemp("own")
    body = npz(folder / "drawn.npz", draw_state(official_shapes(preset(folder)))).read_bytes()
    text = (folder / "presets.yaml").read_text()
    (folder / "presets.yaml").write_text(
        text.replace("drawn.pth}", "drawn.npz, url: 'https://authors.invalid/a/drawn.npz'}")
    )
    return str(folder / "presets.yaml"), body


def test_download_and_json(own, tmp_path, capsys):
    presets, body = own
    words = ["tiny", "--preset-file", presets, "--json", "r.json", "--dir", "here"]
    with Server(body) as server:
        assert run_verb("download", [*words, "--mirror", server.address]) == 0
        out = capsys.readouterr().out
        assert out.startswith("here/tiny.drawn/drawn.npz: ") and out.endswith(", kept to compare with\n")
        (row,) = json.loads((tmp_path / "r.json").read_text())["downloads"]
        assert row["bytes"] == len(body) and row["address"] == f"{server.address}/a/drawn.npz"
        assert run_verb("download", words) == 0
        assert "as when it was first here" in capsys.readouterr().out and len(server.requests) == 1


def test_a_failure_is_one_line_and_exit_2(own, capsys):
    presets, body = own
    with Server(body) as server:
        server.script = [says(403)]
        assert run_verb("download", ["tiny", "--preset-file", presets, "--mirror", server.address]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(error) == 1 and "is refused (HTTP 403 Forbidden). By hand: bring https://authors.invalid/a/" in error[0]


def test_several_go_on_after_a_failure(own, capsys, tmp_path):
    presets, body = own
    with Server(body) as server:
        words = ["demo_cait_digits", "tiny", "--preset-file", presets, "--mirror", server.address, "--json", "r.json"]
        assert run_verb("download", words) == 2
    output = capsys.readouterr()
    assert "demo_cait_digits.digits: error: demo_cait_digits.digits: no address is known" in output.err
    assert output.out.splitlines()[-1] == "1 of 2 presets, 1 failed"
    rows = json.loads((tmp_path / "r.json").read_text())["downloads"]
    assert "error" in rows[0] and "sha256" in rows[1]


def test_a_dry_run_asks_nobody(capsys, tmp_path):
    assert run_verb("download", ["cait_*", "vit_base_patch16_224.*", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0] for line in lines if not line.startswith(" ")][:-1]
    tags = [p.full_name for p in list_presets() if p.name == "vit_base_patch16_224"]
    assert [name.split(".")[0] for name in names] == list_models("cait_*") + ["vit_base_patch16_224"] * len(tags)
    assert lines[1] == "  https://dl.fbaipublicfiles.com/deit/XXS24_224.pth" and ": absent, " in lines[0]
    assert not (tmp_path / "home").exists()


def test_names_nobody_has(capsys):
    assert run_verb("download", ["beit_*"]) == 2
    assert "beit_*: no preset's name is like this; `paddle-cait list` shows all" in capsys.readouterr().err
    assert run_verb("download", ["cait_xxs24"]) == 2
    assert "did you mean cait_xxs24_224" in capsys.readouterr().err
