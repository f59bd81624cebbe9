"""The page itself, in gradio 4.44 or newer. Your own file needs three lines (AI Studio calls it ``app.gradio.py``):

    from paddle_cait.app.page import build
    from paddle_cait.app.serve import launch
    launch(build(["weights/"]))

Names in dicts of components are those of :class:`paddle_cait.app.choice.Choice`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from paddle_cait import runtime
from paddle_cait.app.files import write_file
from paddle_cait.app.texts import language, text
from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import PathLike

if TYPE_CHECKING:
    from paddle_cait.app.choice import Choice
    from paddle_cait.app.studio import Prediction, Studio

DRAWN = ("message", "picture", "about")
OPTIONS = ("threshold", "fusion", "discard", "targets", "level", "metric")
ADJUSTED = ("model", "alpha", "layer", "show", "head", *OPTIONS, "names")
_FORGET_EVERY, _FORGET_AFTER = 600, 3600  # seconds: uploads and pictures are deleted

# The browser saves a file that was just written, as if its link had been clicked.
_SAVE = """(file) => {
    if (!file) return;
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name || file.path.split("/").pop();
    document.body.append(link);
    link.click();
    link.remove();
}"""


def build(
    weights: Sequence[PathLike],
    *,
    model: str | None = None,
    preset_file: PathLike | None = None,
    img_size: int | None = None,
    max_upload: float = 20,
    device: str = "auto",
    lang: str | None = None,
) -> Any:
    """The page for these checkpoints, a ``gradio.Blocks`` for :func:`paddle_cait.app.serve.launch`.

    Args:
        weights: checkpoints, or folders of them; see :func:`paddle_cait.app.checkpoints.find_offers`, also for
            ``model``, ``preset_file`` and ``img_size``.
        max_upload: of a photograph's file, in MB.
        device: ``cpu``, ``gpu``, ``gpu:1`` or ``auto``; Paddle is set up for it.
        lang: ``zh`` or ``en``; None is this machine's.

    Raises :class:`PaddleCaitError` for weights that fit nothing, and if gradio is not installed.
    """
    from paddle_cait.app.serve import gradio, own_folder

    gr = gradio()
    runtime.prepare(device)
    from paddle_cait.app.checkpoints import find_offers
    from paddle_cait.app.studio import Studio

    studio = Studio(find_offers(weights, model, preset_file, img_size), round(max_upload * 2**20))
    return Page(gr, studio, language(lang), own_folder()).blocks


class Page:
    """Components, and what happens when they change. ``blocks``: the whole; ``folder``: for files to be downloaded."""

    def __init__(self, gr: Any, studio: Studio, lang: str, folder: Path) -> None:
        from paddle_cait.app.layout import lay_out, looks

        self.gr, self.studio, self.lang, self.folder = gr, studio, lang, folder
        self.blocks = gr.Blocks(
            title="paddle-cait",
            analytics_enabled=False,
            delete_cache=(_FORGET_EVERY, _FORGET_AFTER),
            **looks(gr, gr.Blocks.__init__),
        )
        with self.blocks:
            self.parts = lay_out(gr, studio, lang)
            self._connect()
        self.blocks.queue(api_open=False, max_size=32)

    def _connect(self) -> None:
        gr, parts, chosen = self.gr, self.parts, self.parts.chosen
        inputs, everything = list(chosen.values()), [*parts.shown.values(), *(chosen[key] for key in ADJUSTED)]
        picture = [parts.shown[key] for key in DRAWN]
        last: dict[str, Any] = {"trigger_mode": "always_last"}

        # gradio 6 tells twice of each input in a dropdown, and once of its change.
        anew = [chosen[key].change for key in ("checkpoint", "model", "upload", "method")]
        anew += [self.blocks.load, *_inputs(chosen, "fit", "show")]
        gr.on(anew, self.settle, inputs, everything, show_progress="minimal", **last)
        quick = _inputs(chosen, "layer", "head", "threshold", "alpha")
        gr.on(quick, self.redraw, inputs, picture, show_progress="hidden", **last)
        slow = _inputs(chosen, "fusion", "discard", "targets", "level", "metric")
        gr.on(slow, self.redraw, inputs, picture, show_progress="minimal", **last)
        parts.shown["picture"].select(
            self._clicked(), inputs, [chosen["spot"], *picture], show_progress="hidden", **last
        )
        for form, button in parts.buttons.items():
            written = button.click(self._writer(form), inputs, [parts.file, parts.shown["message"]])
            written.then(None, parts.file, None, js=_SAVE)

    def settle(self, *values: Any) -> list[Any]:
        """All that depends on checkpoint, model, photograph and method: ranges, predictions, the picture."""
        choice, alpha, names = self._choice(values)
        models = list(self.studio.offers[choice.checkpoint].builds)
        choice = replace(choice, model=choice.model if choice.model in models else models[0])
        off = self.gr.update(visible=False)
        shown: dict[str, Any] = {"message": off, "picture": None, "about": "", "about_model": "", "prediction": off}
        adjusted: dict[str, Any] = {**dict.fromkeys(ADJUSTED, off), "names": ""}
        adjusted["model"] = self.gr.update(choices=models, value=choice.model)
        try:
            shown["about_model"] = self._about_model(choice)
            layers = self.studio.layers(choice)
            if layers and " ".join(layers) != names:
                choice = replace(choice, layer=self.studio.first_layer(choice))
            adjusted.update(self._ranges(choice, layers))
            if choice.upload is not None:
                found = self.studio.predictions(choice)
                choice = replace(choice, targets=_targets(choice, found))
                shown["prediction"] = self._labelled(found)
                adjusted["targets"] = self._target_box(choice, found)
            shown.update(self._drawn(choice, alpha))
        except PaddleCaitError as error:
            shown["message"] = self._refusal(choice, error)
        return [*(shown[key] for key in self.parts.shown), *(adjusted[key] for key in ADJUSTED)]

    def redraw(self, *values: Any) -> list[Any]:
        """The picture alone."""
        choice, alpha, _ = self._choice(values)
        return list(self._drawn(choice, alpha).values())

    def _clicked(self) -> Callable[..., list[Any]]:
        def clicked(event, *values):  # type: ignore[no-untyped-def]
            choice, alpha, _ = self._choice(values)
            if "spot" not in choice.uses or choice.upload is None:
                return [self.gr.update() for _ in ("spot", *DRAWN)]
            try:
                choice = self.studio.click(choice, *event.index[:2])
            except PaddleCaitError as error:
                return [choice.spot, self._refusal(choice, error), None, ""]
            return [choice.spot, *self._drawn(choice, alpha).values()]

        clicked.__annotations__ = {"event": self.gr.SelectData}  # by this gradio knows what to pass
        return clicked

    def _writer(self, form: str) -> Callable[..., list[Any]]:
        def write(*values: Any) -> list[Any]:
            choice, alpha, _ = self._choice(values)
            try:
                return [str(write_file(self.studio, choice, alpha, form, self.folder)), self._message("")]
            except PaddleCaitError as error:
                return [None, self._refusal(choice, error)]

        return write

    def _choice(self, values: Sequence[Any]) -> tuple[Choice, float, str]:
        """What the components say, the opacity, and the layers that the slider stands for."""
        from paddle_cait.app.choice import Choice

        given = dict(zip(self.parts.chosen, values))
        alpha, names = float(given.pop("alpha")), given.pop("names")
        given.update({key: int(given[key]) for key in ("layer", "head", "level")})
        given["targets"] = tuple(int(label) for label in given["targets"] or ())
        return Choice(**given), alpha, names

    def _drawn(self, choice: Choice, alpha: float) -> dict[str, Any]:
        """The message, the picture and the line about it."""
        from paddle_cait.explain.catalogue import OF_WEIGHTS

        if choice.upload is None and choice.method not in OF_WEIGHTS:
            return {"message": self._message(""), "picture": None, "about": text(self.lang, "wanted")}
        try:
            picture, about = self.studio.draw(choice, alpha)
        except PaddleCaitError as error:
            return {"message": self._refusal(choice, error), "picture": None, "about": ""}
        if "spot" in choice.uses:
            about += f"  \n{text(self.lang, 'click')}"
        return {"message": self._message(""), "picture": picture.pixels, "about": about}

    def _ranges(self, choice: Choice, layers: dict[str, Any]) -> dict[str, Any]:
        """The controls that the method uses in this model."""
        from paddle_cait.app.choice import DIAGRAMS

        update, found = self.gr.update, {}
        for key in choice.uses & {"threshold", "fusion", "discard", "level", "metric"}:
            found[key] = update(visible=bool(layers) or key != "threshold")
        found["alpha"] = update(visible=choice.method not in DIAGRAMS)
        if layers:
            heads = max(count for _, count in layers.values())  # GCViT's levels differ: of fewer, the last is shown
            several = "show" in choice.uses and heads > 1
            found["layer"] = update(maximum=max(len(layers) - 1, 1), value=choice.layer, visible=len(layers) > 1)
            found["show"] = update(visible=several)
            one = several and choice.show == "one"
            found["head"] = update(maximum=max(heads - 1, 1), value=min(choice.head, heads - 1), visible=one)
        return {**found, "names": " ".join(layers)}

    def _about_model(self, choice: Choice) -> str:
        explainer = self.studio.explainer(choice)
        height, width = explainer.img_size
        classes = explainer.own.num_classes
        facts = (
            self.studio.build(choice).preset.family,
            text(self.lang, "input", height=height, width=width),
            text(self.lang, "layers", count=len(explainer.own.attention_layers())),
            text(self.lang, "classes", count=classes) if classes else text(self.lang, "features"),
        )
        return " · ".join(facts)

    def _labelled(self, found: Sequence[Prediction]) -> Any:
        """The likeliest classes as a label; two classes of ImageNet are called crane."""
        names = [one.name for one in found]
        named = {f"{p.name} ({p.label})" if names.count(p.name) > 1 else p.name: p.chance for p in found}
        return self.gr.update(value=named, visible=bool(named))

    def _target_box(self, choice: Choice, found: Sequence[Prediction]) -> Any:
        choices = [(f"{one.name} {100 * one.chance:.1f}%", one.label) for one in found]
        shown = "targets" in choice.uses and bool(found)
        return self.gr.update(choices=choices, value=list(choice.targets), visible=shown)

    def _refusal(self, choice: Choice, error: PaddleCaitError) -> Any:
        return self._message(self.studio.sentence(choice, error))

    def _message(self, sentence: str) -> Any:
        box = f'<div class="pc-refusal">{html.escape(sentence)}</div>' if sentence else ""
        return self.gr.update(value=box, visible=bool(sentence))


def _targets(choice: Choice, found: Sequence[Prediction]) -> tuple[int, ...]:
    """Those that are still among the likeliest, or the likeliest one."""
    labels = [one.label for one in found]
    return tuple(label for label in choice.targets if label in labels) or tuple(labels[:1])


def _inputs(chosen: dict[str, Any], *keys: str) -> list[Any]:
    """What happens when a visitor, not the page, changes these."""
    return [chosen[key].input for key in keys]
