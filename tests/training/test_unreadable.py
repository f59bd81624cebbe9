"""Images that cannot be read: the run stops and names them, or goes on without them, to the same bits."""

import io
import json
import logging
import re

import numpy as np
import paddle
import pytest
from make_run import assert_close_weights, assert_same_run, log_rows, one_line, recipe, run_command, train, words
from PIL import Image

import paddle_cait as pc
from paddle_cait.data.augment.crop import SimpleRandomCrop
from paddle_cait.data.loader import load_batches
from paddle_cait.data.train_transform import Augmentation, train_transform
from paddle_cait.errors import DataError
from paddle_cait.training.backbone_check import check_backbone
from paddle_cait.training.datasets import open_training_data
from paddle_cait.training.mixup import Mixup
from paddle_cait.training.samples import EpochImages
from paddle_cait.training.sampling import Plan
from paddle_cait.training.state import read_state
from paddle_cait.training.trainer import Trainer, make_trainer

STATE = "last.state.safetensors"


def damage(photos, *names):
    for name in names:
        data = (photos / name).read_bytes()
        (photos / name).write_bytes(data[: len(data) // 2])
    return [str(photos / name) for name in names]


def in_update(photos, update, seed, batch_size):
    """The images that an update of the first epoch looks at."""
    lines = (photos / "train_list.txt").read_text().splitlines()
    order = Plan(len(lines), batch_size, seed).order(0)
    return [lines[i].split()[0] for i in order[update * batch_size : (update + 1) * batch_size]]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_run_stops_and_says_how_to_go_on(workers, start, photos, tmp_path, capsys):
    damage(photos, "blue/03.png")
    given = words(start, photos, tmp_path / "out", "--no-check", "-b", "5", "-j", workers)
    found = one_line(capsys, given)
    assert re.search(r"blue/03.png: the image cannot be decoded .*; --on-error skip leaves such images out$", found)
    assert not list((tmp_path / "out").glob("*.pdparams*"))


def test_the_run_goes_on_without_them(start, photos, tmp_path, caplog):
    bad = damage(photos, "blue/03.png", "red/07.png")
    settings = recipe(epochs=2)
    with caplog.at_level(logging.WARNING, "paddle_cait"):
        train(start, photos, tmp_path / "a", settings, on_error="skip", check=False)
    told = [record.getMessage() for record in caplog.records if "goes on without it" in record.getMessage()]
    assert len(told) == 2 and all(sum(path in line for line in told) == 1 for path in bad)
    assert [row["unreadable"] for row in log_rows(tmp_path / "a")] == ["2", "2"]
    assert sorted(read_state(tmp_path / "a" / STATE).about["unreadable"]) == sorted(bad)
    train(start, photos, tmp_path / "b", settings, on_error="skip", check=False, workers=2)
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_an_update_without_any_image_is_left_out(start, photos, tmp_path, monkeypatch):
    """Nothing is learned from it, and the run that is cut off behind it still ends with the same bits."""
    damage(photos, *in_update(photos, 1, 4, 5))
    settings, options = recipe(epochs=2, checkpoint_updates=2), {"on_error": "skip", "check": False}
    original, seen = Trainer.update, []

    def update(self, *args):
        before = {name: value.numpy() for name, value in self.model.state_dict().items()}
        loss = original(self, *args)
        same = all(np.array_equal(value, before[name]) for name, value in self.model.state_dict().items())
        seen.append((loss is None, same))
        return loss

    monkeypatch.setattr(Trainer, "update", update)
    train(start, photos, tmp_path / "whole", settings, **options)
    assert seen == [(i == 1, i == 1) for i in range(12)]

    def killed(self, *args):
        if len(seen) == 15:
            raise KeyboardInterrupt
        return update(self, *args)

    monkeypatch.setattr(Trainer, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        train(start, photos, tmp_path / "cut", settings, **options)
    monkeypatch.setattr(Trainer, "update", original)
    assert len(read_state(tmp_path / "cut" / STATE).about["losses"]) == 1  # of two updates
    train(start, photos, tmp_path / "cut", settings, resume=True, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_summary_names_them(start, photos, tmp_path):
    """Training and validation images, and those that the look at the backbone meets."""
    bad = damage(photos, "blue/03.png", "green/12.png")
    result = train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0), on_error="skip")
    assert f"2 images could not be read and were left out, the first is {bad[0]}" in result.lines
    assert sorted(json.loads((tmp_path / "out" / "summary.json").read_text())["unreadable"]) == bad
    assert result.history[0]["val_n"] == 11


def test_no_image_at_all(start, photos, tmp_path, capsys):
    damage(photos, *(line.split()[0] for line in (photos / "train_list.txt").read_text().splitlines()))
    found = one_line(capsys, words(start, photos, tmp_path / "out", "--no-check", "-b", "5", "--on-error", "skip"))
    assert re.search(r"epoch 1: not one training image could be read; the first: .*png: the image cannot", found)


def test_each_image_of_an_update_counts_alike(start):
    """However the images that are left are divided among the steps; a step without any changes nothing."""
    rng = np.random.RandomState(1)
    images, labels = rng.randn(4, 3, 48, 48).astype(np.float32), np.array([0, 2, 1, 2])
    empty = (paddle.zeros([0, 3, 1, 1]), labels[:0])
    settings = recipe(mixup=Mixup(0, 0), drop_path=0.0, model_ema=False)

    def learned(*parts):
        model = pc.create_model(start[0], start[1], num_classes=3)
        with paddle.no_grad():
            model.head.weight.set_value(np.linspace(-1, 1, 120, dtype=np.float32).reshape(40, 3))
        model.train()
        trainer = make_trainer(model, settings, 3, None, 1)
        batches = [(paddle.to_tensor(images[part]), labels[part]) if part else empty for part in parts]
        loss = trainer.update(batches, 1e-3, [np.random.default_rng(0)] * len(batches))
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        return loss, weights, trainer.optimizer.state()

    whole, divided, padded = (learned(*parts) for parts in ([[0, 1, 2, 3]], [[0, 1, 2], [3]], [[0, 1, 2, 3], []]))
    assert divided[0] == pytest.approx(whole[0], abs=1e-6) and padded[0] == whole[0]
    for key, value in whole[2].items():
        if key.endswith(":moment1_0"):
            np.testing.assert_allclose(divided[2][key], value, atol=1e-7, rtol=0, err_msg=key)
    assert all(np.array_equal(value, padded[1][name]) for name, value in whole[1].items())
    assert learned([], [])[0] is None


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def odd_images():
    """Modes and sizes that photographs come in."""
    rng = np.random.RandomState(2)
    colours = Image.fromarray(rng.randint(0, 255, (40, 30, 3)).astype(np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "grey": encoded(colours.convert("L"), "JPEG"),
        "cmyk": encoded(colours.convert("CMYK"), "JPEG"),
        "turned": encoded(colours, "JPEG", exif=turned),
        "one pixel": encoded(colours.resize((1, 1)), "PNG"),
        "a line": encoded(colours.resize((1, 300)), "PNG"),
        "transparent": encoded(colours.convert("LA"), "PNG"),
        "palette": encoded(colours.convert("P"), "PNG", transparency=b"\x00\x80\xff"),
        "16 bits": encoded(Image.fromarray(rng.randint(0, 65535, (40, 30)).astype(np.uint16)), "PNG"),
        "bilevel": encoded(colours.convert("1"), "PNG"),
        "webp": encoded(colours, "WEBP"),
    }


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(crop="simple", aa="three", reprob=1.0)])
def test_images_of_any_kind(augmentation, start, photos):
    for place, data in enumerate(odd_images().values()):
        (photos / "blue" / f"{place:02d}.png").write_bytes(data)
    source = open_training_data(photos).train
    images = EpochImages(source, train_transform(start[0], augmentation), np.arange(len(source)), 0, 0)
    for (name, _), batch in zip(odd_images().items(), load_batches(images, [[i] for i in range(10)], 0)):
        assert list(batch.images.shape) == [1, 3, 48, 48] and batch.labels.tolist() == [0], name
        assert np.isfinite(batch.images.numpy()).all(), name


def test_an_image_too_long_to_resize():
    with pytest.raises(DataError, match="1 x 2000000 pixels is too elongated"):
        SimpleRandomCrop(224, Image.Resampling.BICUBIC)(Image.new("RGB", (1, 2000000)), np.random.default_rng(0))


def test_a_run_with_images_of_any_kind(start, photos, tmp_path):
    for place, data in enumerate(odd_images().values()):
        (photos / "blue" / f"{place:02d}.png").write_bytes(data)
        (photos / "green" / f"{place + 4:02d}.png").write_bytes(data)  # four to validate with
    result = train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    assert result.history[0]["val_n"] == 12 and result.history[0]["unreadable"] == 0


def test_the_look_at_the_backbone(start, photos, tmp_path):
    damage(photos, "blue/03.png", "blue/12.png")
    data = open_training_data(photos)
    backbone = pc.create_model(start[0], start[1], num_classes=0)
    with pytest.raises(DataError, match=r"blue/03.png.*--on-error skip leaves such images out"):
        check_backbone(backbone, data, tmp_path / "out" / "check", workers=0)
    assert not (tmp_path / "out" / "check").exists()
    assert check_backbone(backbone, data, tmp_path / "out" / "check", workers=0, on_error="skip") > 50


@pytest.mark.slow
def test_two_processes_do_not_wait_for_each_other(start, photos, tmp_path):
    """One has no image in the very first update, the other has; the weights are those of one process."""
    names = in_update(photos, 0, 3, 6)
    damage(photos, *names[::2])  # the first process's: places are dealt out in turn
    flags = ("--drop-path", "0", "--seed", "3", "--no-check")
    given = [*flags, "-b", "3"]
    with pytest.raises(AssertionError, match="--on-error skip leaves such images out"):
        run_command(words(start, photos, tmp_path / "stop", *given), tmp_path, 2)
    run_command(words(start, photos, tmp_path / "one", *flags, "-b", "6", "--on-error", "skip"), tmp_path)
    run_command(words(start, photos, tmp_path / "two", *given, "--on-error", "skip"), tmp_path, 2)
    rows = [log_rows(tmp_path / name) for name in ("one", "two")]
    assert [row["unreadable"] for row in rows[0]] == [row["unreadable"] for row in rows[1]] == ["3", "3", "3"]
    assert_close_weights(tmp_path / "one" / "last.pdparams", tmp_path / "two" / "last.pdparams", 1e-5)
