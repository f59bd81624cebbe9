"""Predictions: the pixels and classes of evaluation, from whatever people pass."""

import dataclasses
import io

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset
from make_export import export_by_hand, save_paddle
from PIL import Image

import paddle_cait as pc
from paddle_cait.data.class_names import read_names
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import decode, eval_transform
from paddle_cait.deploy.inputs import find_images
from paddle_cait.deploy.manifest import read_manifest
from paddle_cait.deploy.predictor import Prediction, load_predictor
from paddle_cait.weights.store import store_arrays

CHECKPOINT = ROOT / "pretrained" / "demo_cait_digits.pth"
DIGITS = ROOT / "pretrained" / "demo_digits" / "digits.tar"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled model, exported by hand, with names of its classes."""
    out = tmp_path_factory.mktemp("digits") / "out"
    out.mkdir()
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    export_by_hand(out, pc.get_preset("demo_cait_digits"), CHECKPOINT, labels="labels.txt")
    return out


@pytest.fixture(scope="module")
def predictor(folder):
    return load_predictor(folder, engine="paddle", threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty of the bundled digits as files, in two folders, and their labels by path."""
    root = tmp_path_factory.mktemp("photos")
    source = open_source(DIGITS, DIGITS.with_name("val_list.txt"))
    labels = {}
    for i in range(20):
        path = root / ("a" if i % 2 else "a/deep") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(i))
        labels[str(path)] = source.labels[i]
    return root, labels


def test_it_predicts_what_the_model_computes(predictor, photos):
    model = pc.create_model("demo_cait_digits", CHECKPOINT)
    model.eval()
    root, labels = photos
    found = predictor(root, topk=10)
    assert [p.path for p in found] == [item.name for item in find_images(str(root))[0]] and len(found) == 20
    assert sum(p.labels[0] == labels[p.path] for p in found) >= 18
    for p in found[:5]:
        x = eval_transform("demo_cait_digits")(decode(p.path))[None]
        with paddle.no_grad():
            logits = model(paddle.to_tensor(x)).numpy()[0].astype(np.float64)
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert p.labels == tuple(np.argsort(-expected)) and p.names == tuple(NAMES[k] for k in p.labels)
        np.testing.assert_allclose(p.probabilities, np.sort(expected)[::-1], atol=1e-5)
        assert sum(p.probabilities) == pytest.approx(1, abs=1e-12) and isinstance(p.probabilities[0], float)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_do_not_matter(folder, predictor, photos, batch_size):
    other = load_predictor(folder, engine="paddle", threads=1, batch_size=batch_size)
    for ours, theirs in zip(other(photos[0]), predictor(photos[0])):
        assert ours.path == theirs.path and ours.labels[0] == theirs.labels[0]
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-6)


def test_whatever_people_pass(predictor, photos):
    root, labels = photos
    path = next(iter(labels))
    image = Image.open(path).convert("RGB")
    one = predictor(path, topk=3)
    assert isinstance(one, Prediction) and len(one.labels) == 3 and one.path == path
    with open(path, "rb") as file:
        data = file.read()
    for single in (image, data, np.asarray(image)):
        found = predictor(single, topk=3)
        assert (found.labels, found.probabilities) == (one.labels, one.probabilities)
    assert predictor(Image.open(path)).path == path  # of whatever mode
    for several in ([path], np.asarray(image)[None], [data], [image, path], [f"{root}/a/deep"]):
        assert predictor(several)[0].labels[:3] == one.labels
    assert len(predictor(f"{root}/**/*.png")) == 20 and len(predictor(f"{root}/a/0*.png")) == 5
    assert len(predictor(f"{root}/*")) == 20  # a folder that matches
    assert len(predictor([f"{root}/a/deep", image])) == 11
    assert predictor([]) == []


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("none.jpg", "none.jpg: no such file"),
        ("none/*.jpg", r"none/\*.jpg: matches no file"),
        (b"", "image in memory: the file is empty"),
        (np.zeros((4, 4, 3), np.float32), r"an array is float32 \[4, 4, 3\], expected uint8 \[H, W, 3\]"),
        (np.zeros((3, 4, 4), np.uint8), r"expected uint8 \[H, W, 3\]"),
        (3, "a int is no image"),
    ],
)
def test_what_is_no_image_is_one_line(predictor, what, message):
    with pytest.raises(pc.DataError, match=message):
        predictor(what)


def test_an_empty_folder(predictor, tmp_path):
    with pytest.raises(pc.DataError, match="no images in this folder or below it"):
        predictor(tmp_path)


def test_an_unreadable_image_stops_or_is_named_in_its_place(predictor, photos, tmp_path):
    paths = list(photos[1])[:5]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    with pytest.raises(pc.DataError, match=r"broken\.jpg: not an image"):
        predictor([*paths, broken])
    found = predictor([paths[0], broken, *paths[1:]], on_error="skip")
    assert [p.error is None for p in found] == [True, False, True, True, True, True]
    assert found[1].path == str(broken) and "not an image" in found[1].error and found[1].labels == ()
    assert [p.path for p in found if not p.error] == paths
    assert predictor(str(broken), on_error="skip").error
    with pytest.raises(pc.PaddleCaitError, match="on_error is 'ignore'"):
        predictor(paths, on_error="ignore")


def test_a_checkpoint_in_place_of_the_folder(predictor, photos):
    dygraph = load_predictor(CHECKPOINT, model="demo_cait_digits", class_names=NAMES)
    assert dygraph.session.engine == "dygraph" and "dygraph of Paddle" in dygraph.describe()
    for ours, theirs in zip(dygraph(photos[0]), predictor(photos[0])):
        assert ours.labels[0] == theirs.labels[0] and ours.names[0] == theirs.names[0]
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)


def test_a_fine_tuned_checkpoint_describes_itself(photos, tmp_path):
    model = pc.create_model("demo_cait_digits", CHECKPOINT, img_size=64)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    about = {"model": "demo_cait_digits.digits", "num_classes": 10, "img_size": [64, 64], "class_names": NAMES}
    best = tmp_path / "best.pdparams"
    store_arrays(best, state, about)
    path, label = next(iter(photos[1].items()))
    known = load_predictor(best)
    told = load_predictor(CHECKPOINT, model="demo_cait_digits", img_size=64, class_names=NAMES)
    assert known.session.manifest.img_size == (64, 64) and known.names == NAMES
    assert known(path) == told(path)
    assert load_predictor(best, class_names=[*"abcdefghij"], img_size=32)(path).names[0] == "abcdefghij"[label]
    assert load_predictor(best, num_classes=0).num_classes == 0
    with pytest.raises(pc.ConfigError, match="the weights are of 10 classes, not of 5"):
        load_predictor(best, num_classes=5)


def test_features_of_a_model_without_classes(photos, tmp_path):
    path = next(iter(photos[1]))
    from_file = load_predictor(CHECKPOINT, model="demo_cait_digits", num_classes=0)
    features = from_file.features([path, path])
    assert features.shape == (2, from_file.session(np.zeros((1, 3, 32, 32), np.float32))[0].shape[1])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)  # MKL's rows may differ by rounding
    with pytest.raises(pc.PaddleCaitError, match="has no classes, ask for its features"):
        from_file(path)
    with pytest.raises(pc.PaddleCaitError, match="gives logits, no features"):
        load_predictor(CHECKPOINT, model="demo_cait_digits").features(path)
    with pytest.raises(pc.DataError, match="no images were given"):
        from_file.features([])


def test_features_among_the_outputs(folder, predictor, photos, tmp_path):
    """An export with two outputs: each is taken by its name, whatever the order."""

    class Both(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.model = pc.create_model("demo_cait_digits", CHECKPOINT)

        def forward(self, x):
            logits = self.model(x)
            return logits, 2 * logits

    made = save_paddle(Both(), tmp_path, [3, 32, 32])
    told = dataclasses.replace(read_manifest(folder), artifacts=(made,), outputs=("logits", "features"), labels=None)
    told.write(tmp_path)
    two = load_predictor(tmp_path, engine="paddle", threads=1)
    path = next(iter(photos[1]))
    np.testing.assert_allclose(two(path).probabilities, predictor(path).probabilities, atol=1e-6)
    (logits,) = predictor.session(predictor.transform(decode(path))[None])
    np.testing.assert_allclose(two.features(path), 2 * logits, atol=1e-5)
    assert two(path).names == tuple(map(str, two(path).labels))  # no names are known


def test_uint8_pixels_give_the_same(predictor, photos, tmp_path):
    """A model that holds mean and deviation itself gets the pixels after resize and crop."""

    class FromPixels(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.model = pc.create_model("demo_cait_digits", CHECKPOINT)

        def forward(self, x):
            return self.model((x.astype("float32").transpose([0, 3, 1, 2]) / 255 - 0.5) / 0.5)

    told = predictor.session.manifest
    made = save_paddle(FromPixels(), tmp_path, [32, 32, 3], "uint8")
    dataclasses.replace(told, artifacts=(made,), input_dtype="uint8", labels=None).write(tmp_path)
    uint8 = load_predictor(tmp_path, engine="paddle", threads=1)
    for ours, theirs in zip(uint8(photos[0]), predictor(photos[0])):
        assert ours.labels[0] == theirs.labels[0]
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)


def test_exif_is_applied_only_if_asked_for(folder, photos, tmp_path):
    path = next(iter(photos[1]))
    upright = Image.open(path).convert("RGB")
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    turned = tmp_path / "turned.png"
    turned.write_bytes(buffer.getvalue())
    as_stored = load_predictor(folder, engine="paddle", threads=1)
    as_seen = load_predictor(folder, engine="paddle", threads=1, exif=True)
    assert as_seen(turned).probabilities == as_stored(path).probabilities != as_stored(turned).probabilities
    assert as_stored.turned == [str(turned)] and as_seen.turned == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"source": "none"}, "none: no such folder or file"),
        ({"source": CHECKPOINT}, "a checkpoint needs the model's name too"),
        (
            {"source": CHECKPOINT, "model": "demo_cait_digits", "engine": "onnxruntime"},
            "for onnxruntime run `paddle-cait",
        ),
        ({"source": CHECKPOINT, "model": "demo_cait_digits", "precision": "bf16"}, "for bf16 run `paddle-cait export`"),
        ({"source": CHECKPOINT, "model": "demo_cait"}, "unknown model 'demo_cait'"),
        ({"engine": "dygraph"}, "dygraph runs the checkpoint, not an export"),
        ({"model": "cait_xxs24_224"}, "holds demo_cait_digits.digits, not cait_xxs24_224"),
        ({"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ({"class_names": ["a"]}, "class_names: holds 1 names, the model has 10 classes"),
        ({"class_names": "none.txt"}, "none.txt: the class names cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_does_not_fit_is_one_line(folder, asked, message):
    asked = dict(asked)
    with pytest.raises(pc.PaddleCaitError, match=message):
        load_predictor(asked.pop("source", folder), **asked)


def test_a_file_of_the_folder_names_the_folder(folder):
    with pytest.raises(pc.PaddleCaitError, match=f"is one file of an exported folder: give {folder}"):
        load_predictor(folder / "inference.pdiparams", model="demo_cait_digits")
    with pytest.raises(pc.PaddleCaitError, match="topk is 0"):
        load_predictor(folder, engine="paddle")(np.zeros((8, 8, 3), np.uint8), topk=0)


def test_a_folder_that_does_not_say_how_images_are_prepared(folder, tmp_path):
    told = read_manifest(folder)
    for name in told.artifacts[0].files:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for changes, message in (
        ({"preprocess": None}, "does not say how images are prepared"),
        ({"img_size": (32, 64)}, "takes 32x64 pixels"),
        ({"labels": "../secret"}, "expected a file of the folder"),
    ):
        dataclasses.replace(told, **{"labels": None, **changes}).write(tmp_path)
        with pytest.raises(pc.PaddleCaitError, match=message):
            load_predictor(tmp_path, engine="paddle")


def test_names_are_read_as_people_write_them(tmp_path):
    path = tmp_path / "names.txt"
    for text, expected in (
        ("cat\ndog\n", ["cat", "dog"]),
        ("0 tabby, cat\r\n1 dog\r\n\r\n", ["tabby, cat", "dog"]),
        ("1 cat\n2 dog\n", ["1 cat", "2 dog"]),  # numbers that are not the labels are part of the names
        ("东北虎\n熊猫\n", ["东北虎", "熊猫"]),
        ("", []),
    ):
        path.write_text(text, encoding="utf-8")
        assert read_names(path) == expected
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(pc.DataError, match="is not UTF-8 text"):
        read_names(path)


def test_logits_that_are_not_finite(tmp_path):
    tiny = preset(tmp_path)
    state = draw_state(official_shapes(tiny))
    state["head.bias"] = np.full(7, np.inf, np.float32)
    export_by_hand(tmp_path / "out", tiny, npz(tmp_path / "inf.npz", state))
    with pytest.raises(pc.PaddleCaitError, match="image in memory: gives logits that are not finite"):
        load_predictor(tmp_path / "out", engine="paddle")(np.zeros((48, 48, 3), np.uint8))
