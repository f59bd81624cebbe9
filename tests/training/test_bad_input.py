"""Bad input is one clear line and status 2; nothing is trained and nothing half-written remains."""

import os
import re
import shutil

import pytest
from helpers import draw_state, npz, official_shapes, preset
from make_run import draw_photos, one_line, words

from paddle_cait.cli.main import main
from paddle_cait.data import class_folders
from paddle_cait.errors import DataError
from paddle_cait.training.datasets import open_training_data
from paddle_cait.training.state import read_state, write_state

QUICK = ("--epochs", "1", "--warmup-epochs", "0", "-b", "5", "--no-check")


def line(root, number, text, name="train_list.txt"):
    """Put another line into a list."""
    lines = (root / name).read_text().splitlines()
    lines[number - 1 : number] = [text]
    (root / name).write_text("\n".join(lines) + "\n")


def names(root, content):
    (root / "labels.txt").write_bytes(content)


DATA = [
    (lambda root: line(root, 4, "blue/03.png 5"),
     r"train_list.txt:4: the label 5 does not fit 3 classes \(0..2\); .*labels.txt names 3$"),
    (lambda root: line(root, 2, "blue/11.png 7", "val_list.txt"), r"val_list.txt:2: the label 7 does not fit 3"),
    (lambda root: line(root, 4, "blue/03.png -1"), r"train_list.txt:4: the label -1 is negative, expected 0 or more"),
    (lambda root: line(root, 4, "blue/03.png one"), r"train_list.txt:4: the label 'one' is not an integer"),
    (lambda root: line(root, 4, "blue/03.png 0,2"), r"train_list.txt:4: the image has several labels; training needs"),
    (lambda root: line(root, 4, "blue/03.png"), r"train_list.txt:4: expected 'PATH LABEL'"),
    (lambda root: line(root, 4, "blue/99.png 0"), r"train_list.txt:4: no file .*blue/99.png \(1 of the 30 files"),
    (lambda root: (root / "train_list.txt").write_text(""), r"train_list.txt: the list is empty, expected lines"),
    (lambda root: (root / "val_list.txt").write_text("\n# none\n"), r"val_list.txt: the list is empty, expected lines"),
    (lambda root: (root / "val_list.txt").unlink(), r"photos: there is no val_list.txt beside the other list"),
    (lambda root: names(root, b"a\na\nb\n"), r"labels.txt: the name 'a' stands twice"),
    (lambda root: names(root, b"a\n\nb\n"), r"labels.txt: expected the classes' names"),
    (lambda root: names(root, b"a\nb\n"), r"train_list.txt:21: the label 2 does not fit 2 .*labels.txt names 2$"),
    (lambda root: names(root, "红\n绿\n".encode("gbk")), r"labels.txt: is not UTF-8 text"),
    (lambda root: ((root / "labels.txt").unlink(), line(root, 4, "blue/03.png 999999999")),
     r"train_list.txt:4: the label 999999999 means 1,000,000,000 classes; mend it, or name all in labels.txt"),
    (shutil.rmtree, r"photos: no such folder, expected the training images"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), DATA, ids=[message[:40] for _, message in DATA])
def test_data(spoil, message, start, photos, tmp_path, capsys):
    spoil(photos)
    found = one_line(capsys, words(start, photos, tmp_path / "out", *QUICK))
    assert re.search(message, found), found
    assert not (tmp_path / "out").exists()


SETTINGS = [
    (["-c", "run.yaml"], "epoch: 3", r"run.yaml: unknown key 'epoch': did you mean epochs\?"),
    (["-c", "run.yaml"], "batch-sise: 3", r"run.yaml: unknown key 'batch-sise': did you mean batch_size"),
    (["-c", "run.yaml"], "model_ema: 1", r"run.yaml: model_ema is 1, expected true or false"),
    (["-c", "run.yaml"], "epochs: 3\nepochs: 4", r"run.yaml: not valid YAML: the key 'epochs' stands twice"),
    (["-c", "none.yaml"], "", r"none.yaml: cannot be read \(No such file"),
    (["-o", "mixupp=0.8"], "", r"-o mixupp=0.8: unknown key 'mixupp': did you mean mixup"),
    (["-o", "epochs=["], "", r"-o epochs=\[: '\[' is not valid YAML"),
    (["--lr", "nan"], "", r"lr is nan, expected at least 0"),
    (["--warmup-epochs", "9"], "", r"warmup_epochs is 9, more than the 1 epochs: give fewer"),
    (["--model", "tinny"], "", r"unknown model 'tinny': did you mean tiny\?"),
    (["--weights", "none.pth"], "", r"none.pth: no such file"),
    (["--weights", "run.yaml"], "hello", r"run.yaml: is a text file that begins with 'hello', expected a PyTorch .pth"),
    (["--img-size", "50"], "", r"img_size is 50x50, expected multiples of the patch size 16"),
    (["-b", "64"], "", r"30 training images do not fill one update of 64 \(batch_size 64 x 1 processes"),
    (["--grad-accum-steps", "7"], "", r"30 training images do not fill one update of 35 .*use a smaller batch"),
]


@pytest.mark.parametrize(("flags", "text", "message"), SETTINGS)
def test_settings(flags, text, message, start, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    found = one_line(capsys, words(start, photos, tmp_path / "out", *QUICK, *flags))
    assert re.search(message, found), found
    assert not (tmp_path / "out" / "log.csv").exists()


def test_a_teacher_of_other_classes(start, photos, tmp_path, capsys):
    teacher = ["--distillation-type", "hard", "--teacher-model", start[0].name, "--teacher-weights", start[1]]
    found = one_line(capsys, words(start, photos, tmp_path / "out", *QUICK, *teacher))
    assert re.search(r"drawn.npz: its classifier \(head.\w+\) is not of these 3 classes, so it cannot teach", found), (
        found
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-b", "64"], "30 training images do not fill one update of 64"),
        (["--betas", "2", "3"], r"betas is \[2.0, 3.0\], expected two numbers of 0 or more and less than 1"),
        (["--opt-eps", "0"], "opt_eps is 0.0, clip_grad 1.0: expected above 0"),
        (["--clip-grad", "-1"], "opt_eps is 1e-08, clip_grad -1.0: expected above 0"),
        (["--lr", "inf"], "lr is inf, expected at least 0"),
        (["--hflip", "7"], r"hflip is 7.0, expected 0..1"),
        (["--color-jitter", "-3"], r"color_jitter -3.0, 0 or more"),
        (["--reprob", "2"], r"reprob is 2.0 and recount 1, expected 0..1"),
        (["--scale", "0.9", "0.1"], r"scale is \[0.9, 0.1\] and ratio .*, expected rising bounds"),
        (["--aa", "four"], r"aa is 'four', expected rand-m9-mstd0.5-inc1 and the like, three, or none"),
        (["--train-interpolation", "cubic"], "cubic"),
        (["--mixup", "-1"], "mixup is -1.0 and cutmix 0.0, expected 0 or more"),
        (["--layer-decay", "2"], r"layer_decay is 2.0, expected above 0, at most 1"),
        (["--model-ema-decay", "1"], "model_ema_decay is 1.0, expected between 0 and 1"),
        (["--smoothing", "1"], r"smoothing is 1.0, expected 0 or more and less than 1"),
        (["--loss", "bce"], "loss: bce takes every class .*: set smoothing to 0"),
        (["--aa", "rand-m9-foo"], r"aa is 'rand-m9-foo': 'foo' is none of mN"),
        (["--teacher-model", "tiny"], "a teacher is given, but distillation_type is none: set hard or soft"),
        (["--distillation-type", "hard"], "distillation needs --teacher-model and --teacher-weights"),
    ],
)
def test_settings_before_anything_is_written(flags, message, start, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("paddle_cait.training.finetune.check_backbone", None)  # not even looked at
    found = one_line(capsys, words(start, photos, tmp_path / "out", *QUICK[:-1], *flags))
    assert re.search(message, found), found
    assert not (tmp_path / "out").exists()


def test_the_number_of_classes_is_the_datas(start, photos, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words(start, photos, tmp_path / "out", "--num-classes", "five"))
    error = "paddle-cait finetune: error: unrecognized arguments: --num-classes five; see paddle-cait finetune --help\n"
    assert capsys.readouterr().err == error


def test_weights_of_another_model(start, photos, tmp_path, capsys):
    (tmp_path / "wide").mkdir()
    wide = preset(tmp_path / "wide", name="wide", embed_dim=60)
    weights = npz(tmp_path / "wide" / "wide.npz", draw_state(official_shapes(wide)))
    found = one_line(capsys, words(start, photos, tmp_path / "out", *QUICK, "--weights", weights))
    assert re.search(r"wide.npz: does not fit tiny.drawn. cls_token is \[1, 1, 60\], expected \[1, 1, 40\]", found)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("check", [(), ("--no-check",)])
@pytest.mark.parametrize("where", ["file/out", "file", "/proc/nothing/out"])  # root may write wherever chmod forbids it
def test_a_folder_that_cannot_be_written(where, check, start, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    found = one_line(capsys, words(start, photos, tmp_path / where, *QUICK[:-1], *check))
    assert re.search(f"{where}.*: cannot be (written|made) \\((Not a directory|File exists|No such file)", found), found
    assert (tmp_path / "file").read_text() == "mine"


def test_class_folders(start, tmp_path, capsys):
    root, out = tmp_path / "photos", tmp_path / "out"
    (root / "train" / "cat").mkdir(parents=True)
    (root / "val" / "cat").mkdir(parents=True)
    assert "holds one class folder, cat; expected at least two" in one_line(capsys, words(start, root, out))
    (root / "train" / "dog").mkdir()
    assert "train/dog: a class that" in one_line(capsys, words(start, root, out))
    (root / "val" / "dog").mkdir()
    assert "train: no images in its 2 folders" in one_line(capsys, words(start, root, out))
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (root / part / name / "1.png").write_bytes(b"")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    found = one_line(capsys, words(start, root, out, "--class-names", tmp_path / "names.txt"))
    assert re.search(r"names.txt: holds 3 names, .*train has 2 class folders", found)
    for part in ("train", "val"):
        (root / part / "dog").rename(root / part / os.fsdecode("狗".encode("gbk")))
    assert "has no name in UTF-8" in one_line(capsys, words(start, root, out))
    assert not out.exists()


def test_folders_named_by_labels_keep_their_names(tmp_path, monkeypatch):
    """ImageNetV2's form: the folders' names are the labels, but sort as text, 10 before 2."""
    monkeypatch.setattr(class_folders, "NUM_CLASSES", 12)
    for part in ("train", "val"):
        for label in range(12):
            (tmp_path / part / str(label)).mkdir(parents=True)
            (tmp_path / part / str(label) / "1.png").touch()
    data = open_training_data(tmp_path)
    assert data.names == [str(label) for label in range(12)]
    assert all(name == f"{label}/1.png" for name, label in zip(data.train.names, data.train.labels))


@pytest.mark.parametrize(
    "text", ["红\r\n绿 色\r\n蓝\r\n", "0 红\n1 绿 色\n2 蓝\n", "\ufeff0 红\r\n1 绿 色\r\n2 蓝", "红\n绿 色\n蓝\n\n\n"]
)
def test_names_in_any_form(text, photos):
    names(photos, text.encode())
    assert open_training_data(photos).names == ["红", "绿 色", "蓝"]


def test_all_of_one_class(tmp_path):
    photos = draw_photos(tmp_path / "photos")
    (photos / "labels.txt").unlink()
    for part in ("train", "val"):
        lines = (photos / f"{part}_list.txt").read_text().splitlines()
        (photos / f"{part}_list.txt").write_text("\n".join(one for one in lines if one.endswith(" 0")))
    with pytest.raises(DataError, match=r"train_list.txt:1: all labels are 0; expected at least two classes"):
        open_training_data(photos)


def test_states_that_are_not_resumed(start, photos, tmp_path, capsys):
    out, lists = tmp_path / "out", (photos / "train_list.txt").read_text()
    given = words(start, photos, out, *QUICK)
    assert main(given) == 0
    state, best = out / "last.state.safetensors", (out / "best.pdparams").read_bytes()
    whole = state.read_bytes()
    assert "holds a run already; --resume continues it" in one_line(capsys, given)
    assert "written with setting lr 0.001, now it is 0.002: resume with the same, or choose another" in one_line(
        capsys, [*given, "--resume", "--lr", "2e-3"]
    )
    line(photos, 4, "")
    assert "was written with other training images: resume with the same, or" in one_line(capsys, [*given, "--resume"])
    (photos / "train_list.txt").write_text(lists)
    arrays = read_state(state)
    del arrays.arrays["model"]["cls_token"]
    write_state(tmp_path / "lacking", arrays)
    for content, message in (
        (whole[:-4000], "last.state.safetensors: .* bytes .*: nothing to resume; choose another --output-dir"),
        (b"junk" * 99, "last.state.safetensors: is a text file .*: nothing to resume; choose another"),
        (best, "holds no state of a training run; to start from weights pass --weights"),
        ((tmp_path / "lacking").read_bytes(), r"model cls_token is missing, the model's is \[1, 1, 40\]: the state is"),
    ):
        state.write_bytes(content)
        found = one_line(capsys, [*given, "--resume"])
        assert re.search(message, found), found
    state.write_bytes(whole)
    assert main([*given, "--resume"]) == 0 and (out / "best.pdparams").read_bytes() == best


def test_what_is_unusual_is_told_and_trained(start, photos, tmp_path, capsys, caplog):
    """A class without training images, and images in both lists."""
    rows = (photos / "train_list.txt").read_text().splitlines()
    kept = [row for row in rows if not row.endswith(" 2")]
    (photos / "train_list.txt").write_text("\n".join(kept) + "\n")
    (photos / "val_list.txt").write_text("\n".join(rows[:6]) + "\n")
    assert main(list(map(str, words(start, photos, tmp_path / "out", *QUICK)))) == 0, capsys.readouterr().err
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "1 of 3 classes have no training image, the first is " in told
    assert "6 of 6 validation images are training images too, the first is blue/00.png: accuracies will be" in told
