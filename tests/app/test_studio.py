"""What the page shows are the library's own numbers, computed once, and refusals are its sentences."""

import dataclasses
import threading
import time

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset
from PIL import Image

pytest.importorskip("matplotlib", reason="draws")

import paddle_cait as pc
from paddle_cait.app import heats
from paddle_cait.app.checkpoints import find_offers
from paddle_cait.app.choice import USES, Choice, patch_at
from paddle_cait.app.files import sweep, write_file
from paddle_cait.app.heats import layers_for
from paddle_cait.app.studio import KEPT_MODELS, Studio
from paddle_cait.errors import ConfigError, DataError, PaddleCaitError
from paddle_cait.explain.catalogue import METHODS, OF_WEIGHTS
from paddle_cait.explain.class_token import class_attention, patch_attention
from paddle_cait.explain.windows import window_attention


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (70, 90, 3), np.uint8)).save(path)
    return str(path)


def studio_of(folder, family, **changes):
    """A studio with one drawn model, and the choice of it."""
    chosen = preset(folder, f"tiny_{family}", family, **changes)
    path = npz(folder / f"{family}.npz", draw_state(official_shapes(chosen)))
    offers = find_offers([path], model=chosen.full_name, preset_file=folder / "presets.yaml")
    return Studio(offers), Choice(path.name, chosen.full_name)


@pytest.fixture(scope="module")
def deit(tmp_path_factory, photo):
    studio, choice = studio_of(tmp_path_factory.mktemp("deit"), "deit")
    return studio, dataclasses.replace(choice, upload=photo)


@pytest.fixture(scope="module")
def gcvit(tmp_path_factory, photo):
    studio, choice = studio_of(tmp_path_factory.mktemp("gcvit"), "gcvit")
    return studio, dataclasses.replace(choice, upload=photo, method="windows")


def maps_of(studio, choice):
    model, x = studio.explainer(choice).own, paddle.to_tensor(studio.view(choice).pixels[None])
    with paddle.no_grad(), pc.capture_attention(model) as maps:
        logits = model(x)
    return maps, logits


def test_heats_are_the_numbers_of_the_library(deit, gcvit):
    studio, choice = deit
    maps, _ = maps_of(studio, choice)
    found, _ = studio._asked(choice, "class")
    assert list(found) == list(maps)
    for name in maps:
        np.testing.assert_allclose(found[name], class_attention(maps, name)[0], rtol=0, atol=1e-12)
    clicked = dataclasses.replace(choice, method="patch-attention", spot=(0.9, 0.4))
    found, _ = studio._asked(clicked, "patch")
    np.testing.assert_allclose(found["blocks.1.attn"], patch_attention(maps, (2, 1), 1)[0], rtol=0, atol=1e-12)
    studio, choice = gcvit
    maps, _ = maps_of(studio, choice)
    for spot in (None, (0.9, 0.4)):
        found, _ = studio._asked(dataclasses.replace(choice, spot=spot), "windows")
        for name in maps:
            query = patch_at(spot, maps.layouts[name])
            np.testing.assert_allclose(found[name], window_attention(maps, name, query)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", ["deit", "gcvit"])
def test_predictions_are_the_model_s(which, request):
    studio, choice = request.getfixturevalue(which)
    _, logits = maps_of(studio, choice)
    chances = paddle.nn.functional.softmax(logits, axis=-1).numpy()[0]
    found = studio.predictions(choice, 3)
    assert [one.label for one in found] == np.argsort(-chances)[:3].tolist()
    np.testing.assert_allclose([one.chance for one in found], sorted(chances)[:-4:-1], rtol=1e-5)


def test_sliders_and_looks_need_no_further_forward(deit, monkeypatch):
    studio, choice = deit
    studio.draw(choice)
    monkeypatch.setattr("paddle_cait.app.studio.ask", lambda *_: pytest.fail("asked the model again"))
    shown = [
        studio.draw(dataclasses.replace(choice, **changes), alpha)[0].pixels
        for alpha, changes in (
            (0.6, {"layer": 0}),
            (0.6, {"layer": 1, "show": "one", "head": 3}),
            (0.6, {"show": "mean"}),
            (0.2, {"threshold": 0.5}),
            (0.6, {"method": "saliency", "layer": 1}),
        )
    ]
    assert len({pixels.tobytes() for pixels in shown}) == len(shown)
    studio.predictions(choice)


def test_every_method_draws_or_refuses_with_its_sentence(deit, gcvit):
    drawn = {"deit": set(), "gcvit": set()}
    for family, (studio, choice) in (("deit", deit), ("gcvit", gcvit)):
        for method in METHODS:
            try:
                assert studio.draw(dataclasses.replace(choice, method=method))[0].pixels.ndim == 3
                drawn[family].add(method)
            except PaddleCaitError as error:
                assert "\n" not in str(error)
    assert drawn["deit"] == set(METHODS) - {"windows", "grad-cam"} and drawn["gcvit"] == {"windows", "grad-cam"}


def test_features_have_no_classes_to_predict(tmp_path, photo):
    studio, choice = studio_of(tmp_path, "dino")
    choice = dataclasses.replace(choice, upload=photo)
    assert studio.predictions(choice) == []
    with pytest.raises(PaddleCaitError, match="gives features"):
        studio.draw(dataclasses.replace(choice, method="gradient"))


def test_a_whole_photograph_is_seen_by_a_model_of_its_shape(deit):
    studio, choice = deit
    whole = dataclasses.replace(choice, fit="whole", show="one")
    drawn, about = studio.draw(whole)
    assert drawn.tile[1] / drawn.tile[0] == pytest.approx(90 / 70, rel=0.02) and "blocks.2.attn: head 0" in about
    name = "blocks.2.attn"
    assert studio._asked(whole, "class")[0][name].shape[1:] == (3, 4)


def test_a_click_chooses_a_patch_and_a_second_one_lets_it_go(gcvit):
    studio, choice = gcvit
    drawn, _ = studio.draw(choice)
    clicked = studio.click(choice, drawn.tile[1] * 0.6, drawn.tile[0] * 0.1)
    assert clicked.spot == pytest.approx((0.1, 0.6))
    assert not np.array_equal(studio.draw(clicked)[0].pixels, drawn.pixels)
    assert studio.click(clicked, drawn.tile[1] * 0.6, drawn.tile[0] * 0.1).spot is None
    assert studio.click(choice, drawn.tile[1] + 1, 5) == choice  # between two tiles


def test_files_are_those_of_the_command(deit, tmp_path):
    studio, choice = deit
    choice = dataclasses.replace(choice, show="one", head=1)
    path = write_file(studio, choice, 0.6, "png", tmp_path)
    assert path.name == "photo_class-attention.png"
    with Image.open(path) as figure:
        assert figure.text["Title"] == (
            "photo.png: attention of the class token, blocks.2.attn. tiny_deit.drawn, weights deit.npz."
        )
    with np.load(write_file(studio, choice, 0.6, "npz", tmp_path)) as arrays:
        maps, _ = maps_of(studio, choice)
        np.testing.assert_allclose(arrays["blocks.2.attn"], class_attention(maps)[0], rtol=0, atol=1e-12)
    assert write_file(studio, choice, 0.6, "pdf", tmp_path).read_bytes().startswith(b"%PDF")
    with pytest.raises(ConfigError, match="format is 'exe'"):
        write_file(studio, choice, 0.6, "exe", tmp_path)
    sweep(tmp_path, kept=-1)
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_offered_can_be_chosen(deit, tmp_path):
    studio, choice = deit
    for changes in ({"checkpoint": "/etc/passwd"}, {"model": "vit_base_patch16_224"}, {"method": "os.system"}):
        with pytest.raises(ConfigError):
            studio.draw(dataclasses.replace(choice, **changes))
    with pytest.raises(DataError, match="choose a photograph first"):
        studio.draw(dataclasses.replace(choice, upload=None))
    with pytest.raises(DataError, match="^gone.png: is no longer there"):
        studio.draw(dataclasses.replace(choice, upload=str(tmp_path / "gone.png")))


def test_messages_do_not_tell_where_weights_lie(deit):
    studio, choice = deit
    path = studio.offers[choice.checkpoint].path
    assert studio.sentence(choice, DataError(f"{path}: is damaged")) == "deit.npz: is damaged"


def test_the_last_models_are_kept(photo):
    offers = find_offers([ROOT / "pretrained" / "demo_cait_digits.pth"])
    (offer,) = offers.values()
    studio = Studio(dict.fromkeys("abc", offer))
    choices = {name: Choice(name, "demo_cait_digits.digits", photo) for name in "abc"}
    first = studio.explainer(choices["a"])
    studio.explainer(choices["b"])
    assert studio.explainer(choices["a"]) is first
    studio.explainer(choices["c"])  # b goes: a was used since
    assert studio.explainer(choices["a"]) is first and len(studio._models) == KEPT_MODELS


def test_who_only_looks_does_not_wait_for_who_computes(deit):
    studio, choice = deit
    studio.draw(choice)
    with studio._computing:
        seen = []
        visitor = threading.Thread(target=lambda: seen.append(studio.draw(choice)))
        visitor.start()
        visitor.join(5)
        assert seen
        other = threading.Thread(target=lambda: studio.draw(dataclasses.replace(choice, method="rollout", discard=0.3)))
        other.start()
        other.join(0.1)
        assert other.is_alive()  # has to compute, so it waits
    other.join(10)
    assert not other.is_alive()


def test_maps_that_do_not_fit_are_refused_before_they_are_computed(deit, tmp_path, monkeypatch):
    studio, choice = deit
    monkeypatch.setattr(heats, "MAPS_MB", 0.002)  # 3 layers, 5 heads, 10 tokens: 6 kB; one layer of it thrice as well
    with pytest.raises(DataError, match="attention maps would take"):
        studio.draw(dataclasses.replace(choice, method="rollout", discard=0.25))
    monkeypatch.setattr(heats, "MAPS_MB", 64)
    path = tmp_path / "long.png"
    Image.new("RGB", (4000, 50)).save(path)
    started = time.perf_counter()
    with pytest.raises(DataError, match="less elongated photograph"):
        monkeypatch.setattr(heats, "MAPS_MB", 1)
        studio.draw(dataclasses.replace(choice, upload=str(path), fit="whole"))
    assert time.perf_counter() - started < 2


def test_estimates_are_the_sizes_of_the_maps(deit, gcvit, monkeypatch):
    for studio, choice in (deit, gcvit):
        maps, _ = maps_of(studio, choice)
        model = studio.explainer(choice).own
        whole = sum(values.numpy().nbytes for values in maps.values()) / 2**20
        monkeypatch.setattr(heats, "MAPS_MB", whole * 1.001)
        heats.check_size(model, model.img_size, every_layer=True)
        monkeypatch.setattr(heats, "MAPS_MB", whole * 0.999)
        with pytest.raises(DataError):
            heats.check_size(model, model.img_size, every_layer=True)


def test_every_method_has_its_controls():
    assert set(USES) == set(METHODS)
    choice = Choice("a", "b", "photo.jpg", layer=3, threshold=0.5, targets=(1,), fusion="max")
    assert {choice.relevant() == dataclasses.replace(choice, layer=4).relevant()} == {False}
    rolled = dataclasses.replace(choice, method="rollout")
    assert rolled.relevant() == dataclasses.replace(rolled, layer=4, threshold=0.1, targets=()).relevant()
    assert rolled.relevant() != dataclasses.replace(rolled, fusion="min").relevant()
    for method in OF_WEIGHTS:
        assert dataclasses.replace(choice, method=method).relevant().upload is None


def test_layers_are_those_that_can_be_asked(tmp_path):
    studio, choice = studio_of(tmp_path, "cait")
    model = studio.explainer(choice).own
    assert list(layers_for(model, "class")) == ["blocks_token_only.0.attn", "blocks_token_only.1.attn"]
    assert list(layers_for(model, "patch")) == [f"blocks.{i}.attn" for i in range(3)]
    assert layers_for(model, "windows") == {}
    assert studio.first_layer(dataclasses.replace(choice, method="saliency")) == 0  # as in CaiT's paper
    assert studio.first_layer(choice) == 1
