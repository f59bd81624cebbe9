"""The authors' checkpoints in the cache: where they come from, whose bytes are trusted, several processes at once."""

import dataclasses
import hashlib
import logging
import subprocess
import sys
import types

import numpy as np
import pytest
from helpers import draw_state, npz, official_shapes, preset
from http_server import Server, says, stops, wait_for_bytes

import paddle_cait as pc
from paddle_cait.errors import ConfigError, PresetError, WeightsError
from paddle_cait.presets import CheckpointSource, get_preset, list_presets
from paddle_cait.weights.addresses import addresses, hub_file, official_address
from paddle_cait.weights.cache import official_path, official_weights, weights_folder
from paddle_cait.weights.download import Limits
from paddle_cait.weights.http_source import DownloadError

QUICK = Limits(timeout=0.5, attempts=2, wait=0.01)
VARIABLES = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "XDG_CACHE_HOME",
    "PADDLE_CAIT_MIRROR",
    "HF_ENDPOINT",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PADDLE_CAIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small preset, and a checkpoint of it as bytes."""
    folder = tmp_path_factory.mktemp("drawn")
    chosen = preset(folder)
    return chosen, npz(folder / "drawn.npz", draw_state(official_shapes(chosen))).read_bytes()


@pytest.fixture
def server(drawn):
    with Server(drawn[1]) as found:
        yield found


@pytest.fixture
def tiny(drawn, server):
    return offered(drawn[0], server)


def offered(chosen, server, **changes):
    source = CheckpointSource("drawn.npz", f"{server.address}/models/drawn.npz")
    return dataclasses.replace(chosen, checkpoint=dataclasses.replace(source, **changes))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_the_word_official_loads_the_authors_weights(tiny, server, cache):
    model = pc.create_model(tiny, weights="official")
    assert [path for path, _ in server.requests] == ["/models/drawn.npz"]
    assert model.load_report.sha256 == sha256(server.body)
    again = pc.create_model(tiny, weights="official", num_classes=0)
    assert len(server.requests) == 1
    np.testing.assert_array_equal(again.norm.weight.numpy(), model.norm.weight.numpy())
    folder = cache / "tiny.drawn"
    assert sorted(path.name for path in folder.iterdir()) == ["drawn.npz", "drawn.npz.sha256"]
    origin, line = (folder / "drawn.npz.sha256").read_text().splitlines()
    assert origin == f"# from {server.address}/models/drawn.npz" and line == f"{sha256(server.body)}  drawn.npz"


def test_the_first_download_is_kept_and_compared_with(tiny, server, tmp_path):
    first = official_weights(tiny)
    assert (first.checked, first.sha256, first.size) == ("first", sha256(server.body), len(server.body))
    assert official_weights(tiny).checked == "recorded" and official_weights(tiny, force=True).address == first.address
    old, server.body = server.body, server.body + b"\0"
    with pytest.raises(WeightsError) as error:
        official_weights(tiny, force=True)
    assert all(word in str(error.value) for word in (sha256(old), sha256(server.body), "drawn.npz.sha256 first"))
    assert first.path.read_bytes() == old and not list(first.path.parent.glob("*.part*"))
    server.body = old
    assert official_weights(tiny, folder=tmp_path / "other").checked == "first"  # another folder, another memory


def test_a_file_that_was_exchanged_on_the_disk(tiny, server):
    path = official_weights(tiny).path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="download it again with --force, or, to trust this one"):
        official_weights(tiny)
    assert official_weights(tiny, force=True).checked == "recorded"
    path.with_name("drawn.npz.sha256").write_text("md5  drawn.npz\n")
    with pytest.raises(WeightsError, match="holds no sha256"):
        official_weights(tiny)


def test_what_the_authors_publish_is_compared(drawn, server):
    right = offered(drawn[0], server, sha256_prefix=sha256(server.body)[:8].upper())
    assert official_weights(right).checked == "published"
    with pytest.raises(WeightsError, match="the authors' begins with 0123abcd: damaged, or not theirs"):
        official_weights(offered(drawn[0], server, sha256_prefix="0123abcd", filename="b.npz"))


@pytest.mark.parametrize(
    "body", [b"", b"plain text", b"PK\3\4" + bytes(99), b"version https://git-lfs.github.com/spec/v1"]
)
def test_what_is_no_checkpoint_is_not_trusted(tiny, server, cache, body):
    server.body = body
    with pytest.raises(WeightsError):
        official_weights(tiny)
    assert not list((cache / "tiny.drawn").iterdir())


def test_a_file_brought_by_hand(tiny, server, caplog):
    path = official_path(tiny)
    path.parent.mkdir(parents=True)
    path.write_bytes(server.body)
    with caplog.at_level(logging.INFO):
        assert official_weights(tiny).checked == "first" and not server.requests
    assert f"this first one is kept, to compare with: {sha256(server.body)}" in caplog.text


def test_no_network_tells_the_way_by_hand(tiny, cache):
    far = dataclasses.replace(tiny, checkpoint=CheckpointSource("a.pth", "https://authors.invalid/deit/a.pth"))
    with pytest.raises(DownloadError) as error:
        official_weights(far)
    message = str(error.value)
    assert message.startswith("https://authors.invalid/deit/a.pth: cannot be reached (")
    assert f"bring https://authors.invalid/deit/a.pth to {cache}/tiny.drawn/a.pth, or use it where" in message
    assert "PADDLE_CAIT_MIRROR" in message and "https_proxy" in message and len(message) < 700


def test_the_licence_is_told_when_it_is_downloaded(tiny, caplog):
    caplog.set_level(logging.INFO)
    bound = dataclasses.replace(tiny, licence="CC-BY-NC-SA-4.0")
    for _ in range(2):
        official_weights(bound)
    told = [record for record in caplog.records if "licence" in record.message]
    assert [(r.levelname, r.message) for r in told] == [
        ("WARNING", "tiny.drawn: licence of the weights: CC-BY-NC-SA-4.0, NO COMMERCIAL USE")
    ]
    official_weights(tiny, force=True)
    assert caplog.records[-1].message.endswith("licence of the weights: Apache-2.0")


def test_a_mirror_is_asked_for_the_path_then_for_the_name(drawn, server, monkeypatch):
    far = dataclasses.replace(
        drawn[0], checkpoint=CheckpointSource("drawn.npz", "https://authors.invalid/models/drawn.npz")
    )
    server.script = [says(404)]
    assert official_weights(far, mirror=f"{server.address}/copy/").address == f"{server.address}/copy/drawn.npz"
    assert [path for path, _ in server.requests] == ["/copy/models/drawn.npz", "/copy/drawn.npz"]
    monkeypatch.setenv("PADDLE_CAIT_MIRROR", server.address)
    assert official_weights(far, force=True).address == f"{server.address}/models/drawn.npz"
    with pytest.raises(DownloadError, match="is no address of a server"):
        official_weights(far, force=True, mirror="file:///tmp")


def test_the_addresses_of_the_packaged_presets(monkeypatch):
    for chosen in list_presets():
        if chosen.checkpoint and chosen.checkpoint.url:
            assert official_address(chosen).startswith("https://") and official_path(chosen).suffix
    paths = {official_path(p) for p in list_presets() if p.checkpoint}
    assert len(paths) == sum(p.checkpoint is not None for p in list_presets())
    hub = get_preset("vit_base_patch16_224")
    assert addresses(hub) == [f"https://huggingface.co/timm/{hub.full_name}/resolve/main/model.safetensors"]
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.org/")
    assert addresses(hub) == [f"https://hub.example.org/timm/{hub.full_name}/resolve/main/model.safetensors"]
    assert addresses(get_preset("cait_xxs24_224")) == ["https://dl.fbaipublicfiles.com/deit/XXS24_224.pth"]
    several = get_preset("vit_base_patch16_224.orig_in21k")  # three presets' files are called ViT-B_16.npz
    assert addresses(several, "http://10.0.0.1/w") == ["http://10.0.0.1/w/vit_models/imagenet21k/ViT-B_16.npz"]
    assert len(addresses(get_preset("cait_xxs24_224"), "http://10.0.0.1/w")) == 2


def test_presets_without_a_file_or_address():
    with pytest.raises(
        DownloadError, match=r"no file is known of these weights; NVlabs/GCVit README.md .* --weights FILE"
    ):
        pc.create_model("gcvit_large.in21k_ft_in1k", weights="official")
    with pytest.raises(DownloadError, match="no address is known of demo_cait_digits.pth"):
        official_weights(get_preset("demo_cait_digits"))


@pytest.mark.parametrize("name", ["../a.pth", "a/b.pth", "..", "c:a.pth", "a\\b"])
def test_a_file_name_stays_in_its_folder(tiny, server, name):
    with pytest.raises(PresetError, match="cannot be a file's name"):
        official_weights(offered(tiny, server, filename=name))


def test_the_folder(monkeypatch, tmp_path, tiny):
    monkeypatch.delenv("PADDLE_CAIT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "paddle" / "paddle_cait" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert str(weights_folder()) == "/scratch/paddle/paddle_cait/weights"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="choose another folder with PADDLE_CAIT_HOME, or --dir"):
        official_weights(tiny, folder=tmp_path / "file")


def test_two_processes_download_once(drawn, server, cache):
    """The one waits for the other; a third that was killed in the middle is in nobody's way."""
    server.script = [stops(5_000, "stall")]
    folder = cache.parent
    folder.mkdir()
    text = preset(folder) and (folder / "presets.yaml").read_text()
    source = f"{{filename: drawn.npz, url: '{server.address}/models/drawn.npz'}}"
    (folder / "presets.yaml").write_text(text.replace("{filename: drawn.pth}", source))
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO);"
        "from paddle_cait import get_preset; from paddle_cait.weights.cache import official_weights;"
        "print(official_weights(get_preset('tiny', sys.argv[1])).sha256)"
    )
    command = [sys.executable, "-c", code, str(folder / "presets.yaml")]
    part = cache / "tiny.drawn" / "drawn.npz.part"
    killed = subprocess.Popen(command)
    wait_for_bytes(part, 5_000)
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for child in both:
        assert "drawn.npz: another process is downloading it; waiting" in child.stderr.readline()
    killed.kill()
    killed.wait()
    assert [child.communicate(timeout=20)[0].strip() for child in both] == [sha256(drawn[1])] * 2
    assert [headers.get("range") for _, headers in server.requests] == [None, "bytes=5000-"]
    assert sorted(path.name for path in part.parent.iterdir()) == ["drawn.npz", "drawn.npz.sha256"]


def test_no_locks_no_shared_part(tiny, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    server.script = [stops(5_000), stops(5_000)]
    with pytest.raises(DownloadError):
        official_weights(tiny, limits=QUICK)
    assert not list(official_path(tiny).parent.iterdir())  # a part that nobody will go on with
    assert official_weights(tiny).sha256 == sha256(server.body)


def test_the_hub(drawn, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    there = offered(drawn[0], server, url="https://huggingface.co/timm/tiny.drawn", filename="tiny.safetensors")
    with pytest.raises(ConfigError, match=r"pip install 'paddle_cait\[hub\]'"):
        official_weights(there, hub=True)
    fake = types.SimpleNamespace(hf_hub_download=None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)

    def fails(*_, **__):
        raise RuntimeError("401 Client Error\nlog in")

    fake.hf_hub_download = fails
    with pytest.raises(
        DownloadError, match=r"^timm/tiny.drawn/model.safetensors on the hub: RuntimeError: 401 Client Err"
    ):
        official_weights(there, hub=True)

    def brings(repository, name, *, local_dir):
        assert (repository, name) == ("timm/tiny.drawn", "model.safetensors")
        local_dir.mkdir()
        (local_dir / name).write_bytes(server.body)
        return str(local_dir / name)

    fake.hf_hub_download = brings
    found = official_weights(there, hub=True)
    assert found.path.read_bytes() == server.body and found.checked == "first"
    assert sorted(p.name for p in found.path.parent.iterdir()) == ["tiny.safetensors", "tiny.safetensors.sha256"]
    with pytest.raises(ConfigError, match="is not on the Hugging Face hub but at http"):
        official_weights(offered(drawn[0], server, filename="c.npz"), hub=True)
    nvidia = CheckpointSource("a.tar", "https://huggingface.co/nvidia/GCViT/resolve/main/sub/a.tar")
    assert hub_file(nvidia) == ("nvidia/GCViT", "sub/a.tar") and hub_file(CheckpointSource("a")) is None
