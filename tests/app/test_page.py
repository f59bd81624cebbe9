"""The page's wiring, where gradio is installed: every version builds it and answers without a browser."""

import asyncio
import inspect
import warnings

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of gradio's own imports
    gr = pytest.importorskip("gradio", reason='the page: pip install "paddle_cait[app]"')
pytest.importorskip("matplotlib", reason="draws")

from paddle_cait.app.checkpoints import find_offers
from paddle_cait.app.choice import Choice
from paddle_cait.app.layout import looks
from paddle_cait.app.page import ADJUSTED, Page
from paddle_cait.app.studio import Studio


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    offers = find_offers([ROOT / "pretrained"], preset_file=ROOT / "configs" / "finetune" / "presets.yaml")

    async def built():  # in an event loop: without, gradio makes several and closes none
        return Page(gr, Studio(offers), "en", tmp_path_factory.mktemp("files"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradio's own
        return asyncio.run(built())


def values_of(page, **changes):
    """What the components send, as they were laid out."""
    return [changes.get(key, getattr(part, "value", None)) for key, part in page.parts.chosen.items()]


def settled(page, **changes):
    found = page.settle(*values_of(page, **changes))
    return dict(zip([*page.parts.shown, *ADJUSTED], found))


def test_components_are_the_fields_of_a_choice(page):
    fields = set(inspect.signature(Choice).parameters)
    assert set(page.parts.chosen) == fields | {"alpha", "names"}
    assert set(ADJUSTED) <= set(page.parts.chosen)


def test_before_a_photograph_there_are_ranges_and_no_picture(page):
    found = settled(page)
    assert found["picture"] is None and found["about"] == "Choose a photograph."
    assert found["layer"]["maximum"] == 1 and found["layer"]["value"] == 1 and found["layer"]["visible"]
    assert not found["targets"]["visible"] and not found["head"]["visible"]


def test_a_photograph_is_predicted_and_drawn_and_another_checkpoint_brings_its_model(page, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (60, 80, 3), np.uint8)).save(path)
    found = settled(page, upload=str(path), checkpoint="flowers_cait_small_48.safetensors", method="gradient")
    assert found["model"]["value"] == "cait_small_48.scratch"
    assert len(found["prediction"]["value"]) == 5 and sum(found["prediction"]["value"].values()) == pytest.approx(1)
    assert found["targets"]["visible"] and len(found["targets"]["value"]) == 1
    assert found["picture"].dtype == np.uint8
    refused = settled(page, upload=str(path), method="windows")
    assert refused["picture"] is None and "has no windows" in refused["message"]["value"]


def test_messages_are_text(page, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    path.write_text("no photograph")
    message = settled(page, upload=str(path))["message"]["value"]
    assert "&lt;img" in message and "<img" not in message


def test_uploads_come_as_paths_and_unread(page):
    assert page.parts.chosen["upload"].preprocess(None) is None
    assert page.blocks.analytics_enabled is False and page.blocks.delete_cache == (600, 3600)


def test_the_fonts_are_the_system_s():
    found = looks(gr, gr.Blocks.__init__) or looks(gr, gr.Blocks.launch)
    assert not any("http" in str(sheet) for sheet in found["theme"]._stylesheets)
