"""``explain`` as people type it: pictures, arrays, videos, and one line for a mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

import paddle_cait as pc
from paddle_cait.cli.main import VERBS, main
from paddle_cait.data.sources import open_source
from paddle_cait.explain import methods
from paddle_cait.explain.catalogue import METHODS, OF_WEIGHTS

CHECKPOINT = ROOT / "pretrained" / "demo_cait_digits.pth"
DIGITS = ROOT / "pretrained" / "demo_digits" / "digits.tar"
MODEL = ["--model", "demo_cait_digits", "--weights", str(CHECKPOINT)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    source = open_source(DIGITS, DIGITS.with_name("val_list.txt"))
    (root / "more").mkdir()
    for i in range(4):
        (root / ("more" if i > 2 else ".") / f"{i}.png").write_bytes(source.read(i))
    (root / "more" / "0.png").write_bytes(source.read(5))
    Image.open(root / "1.png").resize((90, 40)).convert("CMYK").save(root / "wide.jpg")
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def explain(capsys, *words):
    code = main(["explain", *map(str, words)])
    return code, capsys.readouterr()


def size(path):
    with Image.open(path) as image:
        return image.size


def test_every_method_is_listed_implemented_and_in_the_help():
    assert set(METHODS) == {*methods._OF_IMAGES, *methods._OF_WEIGHTS} and set(OF_WEIGHTS) == set(methods._OF_WEIGHTS)
    assert "explain" in VERBS


def test_help_shows_the_methods(capsys):
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    text = capsys.readouterr().out
    assert all(name in text and line in text for name, line in METHODS.items()) and "example:" in text


@pytest.mark.parametrize(
    "method", ["class-attention", "saliency", "rollout", "gradient", "patch-attention", "distance"]
)
def test_a_picture_of_one_photograph(photos, capsys, tmp_path, method):
    code, found = explain(capsys, method, *MODEL, "--image", photos / "0.png", "--out", f"{method}.png")
    assert code == 0, found.err
    assert found.out == f"{method}.png\n" and min(size(f"{method}.png")) > 300


@pytest.mark.parametrize("method", OF_WEIGHTS)
def test_a_picture_of_the_weights(capsys, method):
    code, found = explain(capsys, method, *MODEL, "--out", "of", "--format", "png", "npz")
    assert code == 0, found.err
    assert found.out.split() == [f"of/{method}.png", f"of/{method}.npz"]
    assert "weights demo_cait_digits.pth" in str(np.load(f"of/{method}.npz")["caption"])


def test_a_folder_with_images_of_one_name_and_two_formats(photos, capsys):
    words = ["--out", "out", "--format", "pdf", "npz", "-b", 2, "--json", "r.json", "--head", "mean"]
    code, found = explain(capsys, "class-attention", *MODEL, "--image", photos, *words)
    assert code == 0, found.err
    report = json.loads(Path("r.json").read_text())
    assert len(report["pictures"]) == 6 and len({name for row in report["pictures"] for name in row["files"]}) == 12
    for row in report["pictures"]:
        pdf, npz = row["files"]
        assert Path(pdf).read_bytes()[:4] == b"%PDF"
        arrays = np.load(npz)
        assert arrays["blocks_token_only.0.attn"].shape == arrays["blocks_token_only.1.attn"].shape
        assert row["image"].rpartition("/")[2] in str(arrays["caption"])


def test_arrays_are_the_functions_own_whatever_the_batch(photos, capsys):
    explain(capsys, "rollout", *MODEL, "--image", photos, "--out", "out", "--format", "npz", "-b", 5)
    model = pc.create_model("demo_cait_digits", CHECKPOINT)
    model.eval()
    import paddle

    x = pc.eval_transform(model)(Image.open(photos / "2.png").convert("RGB"))
    with paddle.no_grad(), pc.capture_attention(model) as maps:
        model(paddle.to_tensor(x[None]))
    (own,) = pc.explain.attention_rollout(maps)
    np.testing.assert_allclose(np.load("out/2_rollout.npz")["rollout"], own, rtol=1e-5)


def test_the_whole_photograph(photos, capsys):
    words = ["--image", photos / "wide.jpg", "--fit", "whole", "--out", "w.npz"]
    code, found = explain(capsys, "saliency", *MODEL, *words)
    assert code == 0, found.err
    height, width = np.load("w.npz")["saliency"].shape
    assert width > 2 * height


def test_distances_over_a_folder_are_one_diagram(photos, capsys):
    words = ["--image", photos, "--out", "d", "--format", "png", "npz"]
    code, found = explain(capsys, "distance", *MODEL, *words)
    assert code == 0, found.err
    arrays = np.load("d/distance.npz")
    assert arrays["by_image"].shape[0] == 6 and np.allclose(arrays["by_image"].mean(0), arrays["distance"])
    assert str(arrays["layers"][0]) == "blocks.0.attn"


def test_pictures_that_are_there_can_be_left_alone(photos, capsys):
    words = ["saliency", *MODEL, "--image", photos / "0.png", photos / "1.png", "--out", "s", "--skip-existing"]
    explain(capsys, *words)
    Path("s/0_saliency.png").write_bytes(b"mine")
    code, found = explain(capsys, *words)
    assert code == 0 and found.out == "" and Path("s/0_saliency.png").read_bytes() == b"mine"


def test_an_unreadable_image_stops_or_is_skipped(photos, capsys, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    words = ["saliency", *MODEL, "--image", "bad.jpg", photos / "0.png", "--out", "s"]
    code, found = explain(capsys, *words)
    assert code == 2 and "bad.jpg: not an image" in found.err and "--on-error skip" in found.err
    code, found = explain(capsys, *words, "--on-error", "skip")
    assert code == 0 and found.out == "s/0_saliency.png\n"
    code, found = explain(capsys, "saliency", *MODEL, "--image", "bad.jpg", "--out", "s", "--on-error", "skip")
    assert code == 2 and "none of the 1 images could be read" in found.err


def test_a_video(photos, capsys):
    cv2 = pytest.importorskip("cv2")
    frame = np.asarray(Image.open(photos / "0.png").convert("RGB").resize((96, 64)))
    writer = cv2.VideoWriter("in.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(12):
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    video = ["saliency", *MODEL, "--video", "in.avi"]
    code, found = explain(capsys, *video, "out.avi", "-b", 5, "--json", "v.json")
    assert code == 0, found.err
    assert found.out.startswith("out.avi: 12 frames, 96x64, ")
    words = ["--start", 0.3, "--seconds", 0.6, "--every", 2, "--side-by-side"]
    code, found = explain(capsys, *video, "part.avi", *words)
    assert found.out.startswith("part.avi: 3 frames, 192x64, ")
    assert json.loads(Path("v.json").read_text())["frames"] == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rollout", *MODEL, "--out", "o"], "rollout needs --image or --video"),
        (["rollout", *MODEL, "--image", "x.png"], "--out is missing"),
        (["filters", *MODEL, "--image", "x.png", "--out", "o"], "filters looks at the weights alone"),
        (["rollout", "--weights", "none.pth", "--image", "x", "--out", "o"], "none.pth: no such file"),
        (["rollout", "--weights", str(CHECKPOINT), "--image", "x.png", "--out", "o"], "needs --model too"),
        (["rollout", *MODEL, "--image", "x.png", "--out", "o"], "x.png: no such file"),
        (["rollout", *MODEL, "--image", "x.png", "--out", "o.png", "--format", "pdf"], "leave out --format"),
        (["rollout", *MODEL, "--image", "a.png", "b.png", "--out", "o.png"], "is one file, but there are 2 images"),
        (["rollout", *MODEL, "--video", "a.avi", "b.avi", "--out", "o"], "leave out --out"),
        (["distance", *MODEL, "--video", "a.avi", "b.avi"], "not a picture of a frame"),
        (["windows", *MODEL, "--image", "{0}", "--out", "o"], "has no windows, each token sees the whole image"),
        (["grad-cam", *MODEL, "--image", "{0}", "--out", "o"], "use gradient_attention"),
        (["class-attention", *MODEL, "--image", "{0}", "--out", "o", "--layer", "blocks.0.attn"], "has no class token"),
        (["class-attention", *MODEL, "--image", "{0}", "--out", "o", "--head", "9"], "no head 9, expected 0 to"),
        (["class-attention", *MODEL, "--image", "{0}", "--out", "o", "--head", "x"], "expected numbers from 0"),
        (["rollout", *MODEL, "--image", "{0}", "--out", "o", "--cmap", "nosuch"], "nosuch"),
        (["gradient", *MODEL, "--image", "{0}", "--out", "o", "--target", "10"], "expected a class from 0 to 9"),
    ],
)
def test_mistakes_are_one_line(photos, capsys, words, said):
    code, found = explain(capsys, *(str(word).format(photos / "0.png") for word in words))
    assert code == 2 and found.out == ""
    (line,) = [line for line in found.err.splitlines() if "error:" in line]
    assert line.startswith("paddle-cait explain: error: ") and said in line, line
