"""The page's components and where they stand; :mod:`paddle_cait.app.page` says what they do."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable

from paddle_cait.app.choice import SHOWS
from paddle_cait.app.files import FORMATS
from paddle_cait.app.studio import Studio
from paddle_cait.app.texts import method_line, text
from paddle_cait.explain.catalogue import METHODS
from paddle_cait.explain.photographs import FITS

# A system's own fonts: none is fetched. Those with Chinese come before the generic one.
FONTS = ("system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "sans-serif")
CSS = """
.pc-refusal {border-left: 4px solid #d97706; padding: .5em .8em; background: #d9770618; border-radius: 4px}
.pc-picture img {cursor: crosshair}
.pc-picture {min-height: 320px}
"""


@dataclass(frozen=True)
class Parts:
    """``chosen``: what a visitor sets, by the fields of :class:`paddle_cait.app.choice.Choice`, with ``alpha`` and
    ``names``, the layers that the slider stands for; ``shown``: what is told and drawn; ``buttons``: by format."""

    chosen: dict[str, Any]
    shown: dict[str, Any]
    buttons: dict[str, Any]
    file: Any


def lay_out(gr: Any, studio: Studio, lang: str) -> Parts:
    """All components, inside the ``gr.Blocks`` that is open."""
    gr.Markdown(f"### {text(lang, 'title')}\n{text(lang, 'intro')}")
    chosen: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            _lay_out_subject(gr, studio, lang, chosen, shown)
        with gr.Column(scale=5, min_width=480):
            _lay_out_method(gr, lang, chosen)
            shown["message"] = gr.HTML(visible=False, elem_id="message")
            shown["picture"] = gr.Image(
                label=text(lang, "picture"),
                show_label=False,
                format="jpeg",  # gradio's default, WebP, takes longer to write
                interactive=False,
                elem_id="picture",
                elem_classes="pc-picture",
                **known(gr.Image.__init__, show_share_button=False, buttons=["fullscreen"]),
            )
            shown["about"] = gr.Markdown(elem_id="about")
            with gr.Row():
                buttons = {form: gr.Button(_download(lang, form), size="sm", elem_id=form) for form in FORMATS}
            file = gr.File(visible=False)
    chosen["spot"] = gr.State(None)
    # In the browser, not a gr.State here: it belongs to the slider's value, and comes back with it.
    chosen["names"] = gr.Textbox("", visible=False)
    return Parts(chosen, shown, buttons, file)


def _lay_out_subject(gr: Any, studio: Studio, lang: str, chosen: dict[str, Any], shown: dict[str, Any]) -> None:
    """The checkpoint, the photograph and what is predicted for it."""
    name, offer = next(iter(studio.offers.items()))
    models = list(offer.builds)
    chosen["checkpoint"] = gr.Dropdown(
        list(studio.offers), value=name, label=text(lang, "checkpoint"), elem_id="checkpoint"
    )
    chosen["model"] = gr.Dropdown(models, value=models[0], label=text(lang, "model"), elem_id="model")
    shown["about_model"] = gr.Markdown(elem_id="about-model")
    photo = gr.Image(
        label=text(lang, "photo"),
        type="filepath",
        sources=["upload", "clipboard"],
        height=260,
        elem_id="photo",
        **known(gr.Image.__init__, show_share_button=False, buttons=[]),
    )
    # gradio's own would open the file with Pillow, without limits, and fail for what is no photograph.
    photo.preprocess = lambda payload: None if payload is None else payload.path
    chosen["upload"] = photo
    chosen["fit"] = gr.Radio([(text(lang, fit), fit) for fit in FITS], value="crop", label=text(lang, "fit"))
    shown["prediction"] = gr.Label(num_top_classes=5, label=text(lang, "prediction"), elem_id="prediction")


def _lay_out_method(gr: Any, lang: str, chosen: dict[str, Any]) -> None:
    """The method and what can be asked of it; a page shows those controls that its method uses."""
    methods = [(f"{method}: {method_line(lang, method)}", method) for method in METHODS]
    chosen["method"] = gr.Dropdown(methods, value=methods[0][1], label=text(lang, "method"), elem_id="method")
    with gr.Row():
        chosen["layer"] = gr.Slider(0, 1, 0, step=1, label=text(lang, "layer"), elem_id="layer")
        chosen["show"] = gr.Radio(_named(lang, SHOWS), value="all", label=text(lang, "show"), elem_id="show")
        chosen["head"] = gr.Slider(0, 1, 0, step=1, label=text(lang, "head"), elem_id="head", visible=False)
    with gr.Row():
        chosen["alpha"] = gr.Slider(0, 1, 0.6, step=0.05, label=text(lang, "alpha"), elem_id="alpha")
        chosen["threshold"] = gr.Slider(0.1, 1, 1, step=0.05, label=text(lang, "threshold"), elem_id="threshold")
        hidden: dict[str, Any] = {"visible": False}
        chosen["fusion"] = gr.Radio(
            _named(lang, ("mean", "max", "min")), value="mean", label=text(lang, "fusion"), **hidden
        )
        chosen["discard"] = gr.Slider(0, 0.95, 0, step=0.05, label=text(lang, "discard"), **hidden)
        chosen["targets"] = gr.CheckboxGroup([], label=text(lang, "targets"), elem_id="targets", **hidden)
        chosen["level"] = gr.Slider(0, 3, 3, step=1, label=text(lang, "level"), **hidden)
        metrics = _named(lang, ("cosine", "dot"))
        chosen["metric"] = gr.Radio(metrics, value="cosine", label=text(lang, "metric"), **hidden)


def looks(gr: Any, method: Callable[..., Any]) -> dict[str, Any]:
    """Theme and style, if ``method`` takes them: since gradio 6 ``launch`` does, before it was ``Blocks``."""
    theme = gr.themes.Default(primary_hue="indigo", font=FONTS, font_mono=("Consolas", "monospace"))
    return known(method, theme=theme, css=CSS)


def known(method: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """Those of the settings that ``method`` has: gradio's versions differ."""
    return {key: value for key, value in settings.items() if key in inspect.signature(method).parameters}


def _named(lang: str, values: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(text(lang, value), value) for value in values]


def _download(lang: str, form: str) -> str:
    return text(lang, "numbers" if form == "npz" else "download", format=form.upper() if form != "npz" else form)
