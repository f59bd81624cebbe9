"""PASS, FAIL and NOT COMPARABLE, and what makes the difference."""

import dataclasses

import pytest

import paddle_cait as pc
from paddle_cait.engine.evaluate import EvalResult
from paddle_cait.engine.metrics import Rows

PRESET = pc.get_preset("cait_xxs24_224")  # 78.400 over 50,000


def result(correct=39200, n=50000, **changes):
    base = EvalResult(
        model=PRESET.full_name,
        n=n,
        top1_correct=correct,
        top5_correct=47163,
        loss=1.0,
        rows=Rows.empty(),
        names=None,
        preprocess=PRESET.preprocess,
        backend="pillow",
        weights_sha256="0" * 64,
        weights_file="XXS24_224.pth",
        weights_notes=[],
        dataset={"images": n},
        skipped=[],
        device="cpu",
        processes=1,
        batch_size=64,
        images_per_second=1.0,
        seconds=1.0,
    )
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("correct", "status"),
    [(39200, "PASS"), (39225, "PASS"), (39175, "PASS"), (39226, "FAIL"), (39174, "FAIL"), (0, "FAIL"), (50000, "FAIL")],
)
def test_the_tolerance_is_005_points_on_either_side(correct, status):
    verdict = result(correct).verdict(PRESET.published)
    assert verdict.status == status
    assert verdict.difference == pytest.approx(100 * correct / 50000 - 78.4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 49999}, "49,999 images were evaluated, the published number is over 50,000"),
        ({"n": 49999, "skipped": [(3, "a.JPEG")]}, "1 unreadable images were skipped"),
        (
            {"preprocess": dataclasses.replace(PRESET.preprocess, crop_pct=0.9)},
            "crop_pct is 0.9, the published number used 1.0",
        ),
        ({"preprocess": dataclasses.replace(PRESET.preprocess, crop_mode="squash")}, "crop_mode is squash"),
        ({"preprocess": dataclasses.replace(PRESET.preprocess, img_size=384)}, "img_size is 384"),
        ({"preprocess": None}, "does not say how"),
        ({"backend": "cv2"}, "resized with cv2"),
        ({"weights_sha256": ""}, "no weights were loaded"),
        ({"label_set": "ImageNet-ReaL"}, "the evaluation is over ImageNet-ReaL, the published number over ILSVRC2012"),
        ({"label_set": "several labels an image"}, "is over several labels an image, the published number over"),
        ({"label_set": "subset of 10 classes"}, "is over subset of 10 classes, the published number over"),
    ],
)
def test_what_does_not_compare(changes, reason):
    verdict = result(**changes).verdict(PRESET.published)
    assert verdict.status == "NOT COMPARABLE" and reason in verdict.reason and verdict.difference is None


def test_each_label_set_has_its_own_numbers():
    """timm's number for ImageNet-ReaL: 85.240 over the 46,837 images that count."""
    number = dataclasses.replace(PRESET.published, top1=85.240, dataset="ImageNet-ReaL", n=46837)
    assert result(39924, 46837, label_set="ImageNet-ReaL").verdict(number).status == "PASS"
    assert result(39200, 46837, label_set="ImageNet-ReaL").verdict(number).status == "FAIL"
    for other in ("ILSVRC2012", "unnamed", "labels of real.json"):
        verdict = result(39924, 46837, label_set=other).verdict(number)
        assert verdict.status == "NOT COMPARABLE" and "\n" not in verdict.reason
        words = "images of no known set" if other == "unnamed" else other
        assert f"the evaluation is over {words}, the published number over ImageNet-ReaL" in verdict.reason
    assert "46,836 images" in result(39924, 46836, label_set="ImageNet-ReaL").verdict(number).reason


@pytest.mark.parametrize("label_set", ["unnamed", "ILSVRC2012"])
def test_plain_labels_compare_with_plain_numbers(label_set):
    assert result(label_set=label_set).verdict(PRESET.published).status == "PASS"


def test_without_a_published_number():
    assert result().verdict(None).status == "NOT COMPARABLE"


def test_a_number_is_compared_under_its_own_preprocessing():
    """Paddle-Image-Models' 78.50 was measured at 248/224; an evaluation with that crop is compared with that number."""
    other = PRESET.also_published[0]
    assert result(39250, preprocess=other.preprocess).verdict(other).status == "PASS"
    assert result(39250).verdict(other).status == "NOT COMPARABLE"


def test_a_number_that_is_other_weights_names_them():
    """timm's AugReg file evaluated for the original's number: the same shapes, 2.75 points apart."""
    orig, augreg = (
        pc.get_preset(f"vit_base_patch16_224.{tag}") for tag in ("orig_in21k_ft_in1k", "augreg_in21k_ft_in1k")
    )
    timm = orig.settings["timm"]
    measured = result(correct=42267, preprocess=timm)  # 84.534
    others = {augreg.full_name: augreg.number(timm), "nothing": None}
    verdict = measured.verdict(orig.number(timm), others)
    assert verdict.status == "FAIL"
    assert verdict.reason.endswith(f"it agrees with {augreg.full_name} (84.534): are these its weights?")
    assert measured.verdict(augreg.number(timm), {orig.full_name: orig.number(timm)}).status == "PASS"
    elsewhere = result(correct=42267, preprocess=orig.preprocess).verdict(orig.number(orig.preprocess), others)
    assert elsewhere.status == "FAIL" and "it agrees" not in elsewhere.reason


def test_notes_on_the_weights_forbid_a_comparison():
    verdict = result(weights_notes=["its name is that of another"]).verdict(PRESET.published)
    assert str(verdict) == "NOT COMPARABLE: its name is that of another"
