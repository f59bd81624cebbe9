"""What stands beside a fine-tuned checkpoint is believed only if it is whole, small, and about these weights."""

import json
import os
import sys

import numpy as np
import pytest

from paddle_cait.errors import ConfigError, PresetError, WeightsError
from paddle_cait.weights.store import store_arrays
from paddle_cait.weights.trained import read_trained

NAMES = ["daisy", "Gänseblümchen", "东北虎"]
ABOUT = {"model": "cait_xxs24_224.fb_dist_in1k", "num_classes": 3, "img_size": [224, 224], "class_names": NAMES}


LIMITED = hasattr(sys, "set_int_max_str_digits")  # early releases of Python 3.9 read integers of any length


@pytest.fixture
def best(tmp_path):
    path = tmp_path / "best.pdparams"
    store_arrays(path, {"head.bias": np.zeros(3, np.float32)}, ABOUT)
    return path


def rewrite(best, **changes):
    """The file beside ``best`` with other values; ``...`` takes a key away."""
    beside = best.with_name(best.name + ".json")
    values = {**json.loads(beside.read_text(encoding="utf-8")), **changes}
    beside.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def test_it_says_what_was_written(best):
    found = read_trained(best)
    assert (found.model, found.num_classes, found.img_size) == ("cait_xxs24_224.fb_dist_in1k", 3, 224)
    assert found.class_names == tuple(NAMES) and found.file.name == "best.pdparams.json"
    rewrite(best, img_size=[32, 64])
    assert read_trained(str(best)).img_size == (32, 64)


def test_other_files_say_nothing(best, tmp_path):
    beside = best.with_name(best.name + ".json")
    for text in ('{"model": "cait_xxs24_224.fb_dist_in1k", "source": {}, "output": {"sha256": "ab"}}', "[1]", "null"):
        beside.write_text(text)  # a conversion's provenance; somebody else's file
        assert read_trained(best) is None
    beside.unlink()
    assert read_trained(best) is None
    beside.mkdir()
    assert read_trained(best) is None
    for path in (tmp_path / "none.pth", tmp_path, ".", "/", "a\0b"):
        assert read_trained(path) is None
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "pipe").write_bytes(b"weights")
    assert read_trained(tmp_path / "pipe") is None  # and does not wait for a writer


def test_a_description_of_other_weights_is_ignored_with_a_warning(best, caplog):
    best.write_bytes(best.read_bytes() + b"\0")
    assert read_trained(best) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "\n" not in record.message
    assert f"{best}.json: describes other weights than {best}" in record.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ...}, "model is None, expected a preset's name"),
        ({"model": "a\nb"}, r"model is 'a\\nb'"),
        ({"num_classes": ...}, "num_classes is None"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": 3.0}, "num_classes is 3.0"),
        ({"num_classes": 0}, "num_classes is 0, expected 1 to 131072"),
        ({"num_classes": 1 << 40}, "num_classes is 1099511627776"),
        ({"img_size": 224}, r"img_size is 224, expected \[height, width\]"),
        ({"img_size": [224]}, r"img_size is \[224\]"),
        ({"img_size": [224, "224"]}, r"img_size is \[224, '224'\]"),
        ({"img_size": [224, 100_000]}, r"img_size is \[224, 100000\], .* of 1 to 4096 pixels"),
        ({"class_names": ...}, "class_names is None"),
        ({"class_names": "abc"}, "class_names is 'abc', expected a list of 3 names"),
        ({"class_names": ["a", "b"]}, "class_names is 2 names, expected a list of 3 names"),
        ({"class_names": ["a", "b", 3]}, r"class_names\[2\] is 3, expected a line of text"),
        ({"class_names": ["a", "", "c"]}, r"class_names\[1\] is ''"),
        ({"class_names": ["a", "b\nc", "d"]}, r"class_names\[1\] is 'b\\nc'"),
        ({"class_names": ["a", "b", "\ud83d"]}, r"class_names\[2\] is '\\ud83d'"),
        ({"class_names": ["a", "b", "x" * 5000 + "\n"]}, r"class_names\[2\] is 'x{1,20}\.\.\."),
        ({"output": ...}, "output.sha256 is None"),
        ({"output": {"sha256": 3}}, "output.sha256 is 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_value_is_checked(best, changes, message):
    rewrite(best, **changes)
    with pytest.raises(WeightsError, match=message) as caught:
        read_trained(best)
    line = str(caught.value)
    assert line.startswith(f"{best}.json: ") and "\n" not in line and len(line) < 400 and "remove it" in line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON"),
        (b'{"num_classes": 3', "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"num_classes": ' + b"9" * 10_000 + b"}", "is not JSON" if LIMITED else "model is None"),
        (b" " * (8 << 20) + b"{}", "is larger than 8 MiB"),
    ],
    ids=["empty", "cut off", "no text", "deep", "huge number", "large"],
)
def test_what_is_no_json_is_one_line(best, data, message):
    beside = best.with_name(best.name + ".json")
    beside.write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        read_trained(best)


def test_what_was_given_wins(best, tmp_path):
    found = read_trained(best)
    nothing = dict.fromkeys(("model", "num_classes", "img_size", "class_names"))
    whole = {key: ABOUT[key] for key in nothing} | {"img_size": 224}
    assert found.complete(nothing) == whole
    assert found.complete({**nothing, "model": "mine", "img_size": 384, "num_classes": 3}) == {"class_names": NAMES}
    assert found.complete({**nothing, "class_names": "names.txt"}).keys() == {"model", "num_classes", "img_size"}
    assert found.complete({"model": None, "topk": None}) == {"model": ABOUT["model"]}  # nothing that is not asked for
    features = found.complete({**nothing, "num_classes": 0})
    assert features == {"model": ABOUT["model"], "img_size": 224}
    with pytest.raises(ConfigError, match=r"best\.pdparams\.json: the weights are of 3 classes, not of 5: leave the"):
        found.complete({**nothing, "num_classes": 5})


def test_a_model_of_ones_own_needs_its_preset_file(best, tmp_path):
    rewrite(best, model="tiny.drawn")
    found = read_trained(best)
    with pytest.raises(
        PresetError, match=r"the model is tiny\.drawn, which is no packaged preset, so give the --preset"
    ):
        found.complete({"model": None})
    text = "family: cait\nlicence: MIT\npaper: x\ndefaults: {}\nmodels: {}\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(PresetError, match=r"which is no packaged preset, nor one of .*mine\.yaml"):
        found.complete({"model": None, "preset_file": tmp_path / "mine.yaml"})
    assert found.complete({"model": "tiny"}) == {}  # a name that was given is for create_model to look up
