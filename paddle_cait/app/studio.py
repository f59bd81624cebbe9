"""What the page asks for, computed once: models, predictions, maps, pictures and files. It knows no gradio.

Visitors share one Studio. One of them computes at a time; what is remembered is there at once, meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait.app import preview
from paddle_cait.app.checkpoints import Build, Offer
from paddle_cait.app.choice import Choice, frame_at, patch_at
from paddle_cait.app.heats import QUESTIONS, ask, check_size, layers_for
from paddle_cait.app.memo import Memo
from paddle_cait.app.photograph import read_photograph
from paddle_cait.deploy.labels import class_names
from paddle_cait.errors import ConfigError, DataError, PaddleCaitError
from paddle_cait.explain.capture import TokenLayout
from paddle_cait.explain.catalogue import METHODS, OF_WEIGHTS
from paddle_cait.explain.class_token import keep_mass, stretch
from paddle_cait.explain.explainer import Explainer
from paddle_cait.explain.methods import HeatPicture, Picture
from paddle_cait.explain.photographs import View
from paddle_cait.factory import create_model

KEPT_MODELS = 2
MEMO_MB = 256
_EVERY_LAYER = ("rollout", "gradient", "distance")  # methods that hold the maps of all layers at a time


@dataclass(frozen=True)
class Prediction:
    """One of the likeliest classes: its number, name and probability."""

    label: int
    name: str
    chance: float


class Studio:
    """
    Args:
        offers: by the name that the page shows (:func:`paddle_cait.app.checkpoints.find_offers`).
        max_upload: bytes of a photograph's file.
    """

    def __init__(self, offers: Mapping[str, Offer], max_upload: int = 20 << 20) -> None:
        self.offers, self.max_upload = dict(offers), max_upload
        self._memo = Memo(MEMO_MB << 20)
        self._models: OrderedDict[tuple[str, str], Explainer] = OrderedDict()
        self._computing, self._listing = threading.RLock(), threading.Lock()

    def build(self, choice: Choice) -> Build:
        """How the chosen model is built. Only what is offered can be chosen, whatever a browser sends."""
        offer = self.offers.get(choice.checkpoint)
        if offer is None or choice.model not in offer.builds:
            raise ConfigError(f"{choice.checkpoint}, {choice.model}: is not offered here")
        return offer.builds[choice.model]

    def explainer(self, choice: Choice) -> Explainer:
        """The chosen model; the last ones are kept."""
        build, key = self.build(choice), (choice.checkpoint, choice.model)
        found = self._kept(key)
        if found is None:
            with self._computing:
                found = self._kept(key)
                if found is None:
                    while len(self._models) >= KEPT_MODELS:
                        self._models.popitem(last=False)
                    found = self._models[key] = self._open(self.offers[choice.checkpoint], build)
        return found

    def view(self, choice: Choice) -> View:
        """The photograph as the chosen model sees it."""

        def compute() -> View:
            explainer = self.explainer(choice)
            image = read_photograph(str(choice.upload), self.max_upload)
            check_size(explainer.own, explainer.size(image.size, choice.fit), every_layer=False)
            return explainer.view(image, choice.fit)

        return self._once(("view", *self._seen(choice)), compute)

    def predictions(self, choice: Choice, count: int = 5) -> list[Prediction]:
        """The likeliest classes; none for a model of features."""
        explainer = self.explainer(choice)
        classes = explainer.own.num_classes
        if not classes:
            return []
        # Any question's forward gives the output: best the one that the picture needs anyway.
        questions = (QUESTIONS.get(choice.method, "class"), "class", "windows")
        _, output = self._asked(choice, next(one for one in questions if layers_for(explainer.own, one)))
        scores = np.exp(output - output.max())
        chances, names = scores / scores.sum(), explainer.class_names
        best = np.argsort(-chances, kind="stable")[:count]
        return [Prediction(int(k), names[k] if names else f"class {k}", float(chances[k])) for k in best]

    def layers(self, choice: Choice) -> dict[str, tuple[TokenLayout, int]]:
        """Layer -> (layout, heads) of those that the method can look at one by one; none for the other methods."""
        question = QUESTIONS.get(choice.method)
        return layers_for(self.explainer(choice).own, question) if question else {}

    def draw(self, choice: Choice, alpha: float = 0.6) -> tuple[preview.Preview, str]:
        """The picture for the page and a line about it."""
        if choice.method not in METHODS:
            raise ConfigError(f"no method {choice.method!r} here, expected one of {', '.join(METHODS)}")
        if choice.method not in OF_WEIGHTS and choice.upload is None:
            raise DataError("choose a photograph first")
        if self.layers(choice):
            return self._draw_layer(choice, alpha)
        picture = self.picture(choice)
        if isinstance(picture, HeatPicture):
            heats = [heat for row in picture.rows for _, heat in row]
            names = [str(number + 1) for number in range(len(heats))]
            return preview.draw(self.view(choice).photo, heats, names, alpha=alpha), picture.about
        key = ("figure", self._picture_key(choice))
        return self._once(key, lambda: preview.of_figure(picture.figure(None, self.caption(choice, picture)))), ""

    def first_layer(self, choice: Choice) -> int:
        """The place of the layer to begin with: the last one, but a CaiT's first for saliency, as in its paper."""
        layouts = [layout for layout, _ in self.layers(choice).values()]
        return 0 if choice.method == "saliency" and layouts[0].kind == "class" else len(layouts) - 1

    def click(self, choice: Choice, x: float, y: float) -> Choice:
        """The choice after a click on its picture: of the patch there, or of none if it was chosen before."""
        spot = self.draw(choice)[0].spot(x, y)
        if spot is None or not self.layers(choice):
            return choice
        layout, _ = self.layers(choice)[self._layer(choice)[0]]
        again = choice.spot is not None and patch_at(choice.spot, layout) == patch_at(spot, layout)
        return replace(choice, spot=None if again else spot)

    def picture(self, choice: Choice) -> Picture:
        """What the method finds, as the ``explain`` command has it: for files, and for what is not drawn by layers."""

        def compute() -> Picture:
            explainer = self.explainer(choice)
            if choice.method in OF_WEIGHTS:
                return explainer.explain(choice.method, [], choice.options())[0]
            view, options = self.view(choice), choice.options()
            size = view.pixels.shape[1], view.pixels.shape[2]
            check_size(explainer.own, size, choice.method in _EVERY_LAYER)
            if self.layers(choice):
                name, heads = self._layer(choice)
                layout, _ = layers_for(explainer.model(size), QUESTIONS[choice.method])[name]
                options = choice.options(name, layout, heads)
            return explainer.explain(choice.method, [view], options)[0]

        return self._once(self._picture_key(choice), compute)

    def figure(self, choice: Choice, alpha: float = 0.6) -> Any:
        """The figure for a paper, with its caption."""
        picture = self.picture(choice)
        photo = None if choice.method in OF_WEIGHTS else self.view(choice).photo
        with self._computing:
            return picture.figure(photo, self.caption(choice, picture), alpha=alpha)

    def caption(self, choice: Choice, picture: Picture) -> str:
        photo = "" if choice.method in OF_WEIGHTS else f"{Path(str(choice.upload)).name}: "
        return f"{photo}{picture.about}. {choice.model}, weights {choice.checkpoint}."

    def sentence(self, choice: Choice, error: PaddleCaitError) -> str:
        """An error for visitors: without the folders of this machine."""
        offer = self.offers.get(choice.checkpoint)
        return str(error) if offer is None else str(error).replace(str(offer.path), choice.checkpoint)

    def _draw_layer(self, choice: Choice, alpha: float) -> tuple[preview.Preview, str]:
        photo = self.view(choice).photo
        name, count = self._layer(choice)
        heats, _ = self._asked(choice, QUESTIONS[choice.method])
        values, numbers = heats[name], choice.heads(count)
        if choice.method == "saliency":
            values, said = stretch(values.mean(0))[None], "mean of the heads, stretched to 0..1"
        elif numbers == ():
            values, said = values.mean(0)[None], "mean of the heads"
        elif numbers is None:
            said = f"{count} heads, each scaled by itself"
        else:
            values, said = values[list(numbers)], f"head {numbers[0]}"
        if len(values) == 1:
            said += f", {values.min():.2g} to {values.max():.2g}"
        if "threshold" in choice.uses and choice.threshold < 1:
            values = np.where(keep_mass(values, choice.threshold), values, np.nan)
            said += f", the patches that hold {100 * choice.threshold:g} %"
        mark = None
        if choice.method == "patch-attention" or (choice.method == "windows" and choice.spot):
            mark = frame_at(choice.spot, heats[name].shape[1:])
        names = [str(number) for number in range(len(values))]
        return preview.draw(photo, list(values), names, alpha=alpha, mark=mark), f"{name}: {said}"

    def _layer(self, choice: Choice) -> tuple[str, int]:
        """Name and number of heads of the chosen layer."""
        found = self.layers(choice)
        name = list(found)[choice.layer if -len(found) <= choice.layer < len(found) else -1]
        return name, found[name][1]

    def _asked(self, choice: Choice, question: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        spot = choice.spot if question == QUESTIONS.get(choice.method) and question != "class" else None

        def compute() -> tuple[dict[str, np.ndarray], np.ndarray]:
            pixels = self.view(choice).pixels
            model = self.explainer(choice).model((pixels.shape[1], pixels.shape[2]))
            return ask(model, pixels, question, spot)

        return self._once((question, spot, *self._seen(choice)), compute)

    def _seen(self, choice: Choice) -> tuple[Hashable, ...]:
        """What tells apart views: the model, the file as it is now, and the part of it."""
        try:
            state = Path(str(choice.upload)).stat()
        except OSError as error:
            raise DataError(f"{Path(str(choice.upload)).name}: is no longer there, choose it again") from error
        return choice.checkpoint, choice.model, choice.upload, state.st_mtime_ns, state.st_size, choice.fit

    def _picture_key(self, choice: Choice) -> Hashable:
        asked = choice.relevant()
        return (asked,) if choice.method in OF_WEIGHTS else (asked, *self._seen(choice))

    def _kept(self, key: tuple[str, str]) -> Explainer | None:
        with self._listing:
            if key in self._models:
                self._models.move_to_end(key)
            return self._models.get(key)

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The remembered value, or a computed one. Only who has to compute waits for others who do."""
        found = self._memo.get(key)
        if found is None:
            with self._computing:
                found = self._memo.get(key)
                if found is None:
                    found = compute()
                    self._memo.put(key, found)
        return found

    def _open(self, offer: Offer, build: Build) -> Explainer:
        def model(size: tuple[int, int] | None) -> Any:
            keywords = build.keywords if size is None else {**build.keywords, "img_size": size}
            return create_model(build.preset, offer.path, **keywords)

        explainer = Explainer(model, build.preset.preprocess)
        explainer.class_names = offer.class_names or class_names(explainer.own.num_classes, None)
        return explainer
