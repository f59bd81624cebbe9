"""What the ``explain`` verb does: photographs in, pictures out, one after the other, as a diagram or as a video."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from paddle_cait.cli.common import take_from_checkpoint
from paddle_cait.cli.explain_files import ARRAYS, Output, outputs_of, write_arrays
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import ImageSource
from paddle_cait.data.transforms import EvalTransform
from paddle_cait.deploy.inputs import Item, find_images
from paddle_cait.deploy.labels import class_names
from paddle_cait.errors import ConfigError, DataError
from paddle_cait.explain.catalogue import OF_WEIGHTS
from paddle_cait.explain.explainer import Explainer
from paddle_cait.explain.methods import DistancePicture, HeatPicture, Options, Picture
from paddle_cait.explain.photographs import View
from paddle_cait.factory import create_model
from paddle_cait.presets import get_preset

log = logging.getLogger("paddle_cait")
LOOKS = ("cmap", "alpha", "interpolation", "scale")


def open_explainer(args: argparse.Namespace) -> Explainer:
    """The checkpoint's explainer, with the command's settings of Paddle."""
    take_from_checkpoint(args, args.weights)
    if not args.model:
        raise ConfigError(f"{args.weights}: needs --model too, the preset's name; see `paddle-cait list`")
    preset = get_preset(args.model, args.preset_file)

    def build(size: tuple[int, int] | None) -> Any:
        own = size or args.img_size
        return create_model(preset, args.weights, num_classes=args.num_classes, img_size=own)

    explainer = Explainer(build, preset.preprocess)
    explainer.class_names = class_names(explainer.own.num_classes, args.class_names)
    return explainer


def options(args: argparse.Namespace) -> Options:
    """What of the flags concerns the methods."""
    heads = None if args.head is None else () if args.head == ["mean"] else tuple(map(_number, args.head))
    layers = None if args.layer is None else [int(one) if _is_place(one) else one for one in args.layer]
    return Options(
        layers=layers,
        heads=heads,
        token=args.token,
        query=args.query,
        threshold=args.threshold,
        clip=args.clip,
        head_fusion=args.head_fusion,
        discard_ratio=args.discard_ratio,
        targets=None if args.target is None else tuple(args.target),
        level=args.level,
        metric=args.metric,
    )


def pictures(args: argparse.Namespace) -> dict[str, Any]:
    """Draw what was asked for; returns the report for ``--json``."""
    items = find_images(list(args.image))[0] if args.image else []
    diagram = args.method == "distance" and len(items) > 1
    outputs = outputs_of(args, [] if diagram else items)
    explainer = open_explainer(args)
    about = {"method": args.method, "model": args.model, "weights": args.weights}
    if args.method in OF_WEIGHTS:
        (picture,) = explainer.explain(args.method, [], options(args))
        return {**about, "pictures": [_write(args, outputs[0], picture, None, [picture.about])]}
    if diagram:
        return {**about, "pictures": [_distances(args, explainer, items, outputs[0])]}
    return {**about, "pictures": _each(args, explainer, list(zip(items, outputs)))}


def _each(args: argparse.Namespace, explainer: Explainer, work: list[tuple[Item, Output]]) -> list[dict[str, Any]]:
    """A row an image: its files, or why it could not be read."""
    rows: list[dict[str, Any]] = []
    if args.skip_existing:
        there = [item.name for item, output in work if output.exists()]
        work = [(item, output) for item, output in work if not output.exists()]
        rows += [{"image": name, "files": [], "error": None, "note": "was there"} for name in there]
    with tqdm(total=len(work), unit="img", desc=args.method, disable=None) as bar:
        for batch in _batches(args, explainer, work, rows, bar):
            found = explainer.explain(args.method, [view for _, _, view in batch], options(args))
            for (item, output, view), picture in zip(batch, found):
                lines = [f"{Path(item.name).name}: {picture.about}"]
                rows.append({"image": item.name, **_write(args, output, picture, view.photo, lines)})
                bar.update()
    failed = [row["error"] for row in rows if row["error"]]
    for message in failed[:10]:
        log.warning("skipped: %s", message)
    if failed and len(failed) == len(rows):
        raise DataError(f"none of the {len(rows)} images could be read")
    return rows


def _batches(
    args: argparse.Namespace, explainer: Explainer, work: list[tuple[Item, Output]], rows: list[Any], bar: Any
) -> Iterator[list[tuple[Item, Output, View]]]:
    """Neighbours of one size together. What cannot be read becomes a row, or ends the run."""
    batch: list[tuple[Item, Output, View]] = []
    for item, output in work:
        try:
            view = explainer.view(item.read(args.exif), args.fit or "crop")
        except DataError as error:
            message = str(error) if item.name in str(error) else f"{item.name}: {error}"
            if args.on_error == "stop":
                raise DataError(f"{message} (--on-error skip goes on)") from error
            rows.append({"image": item.name, "files": [], "error": message})
            bar.update()
            continue
        if batch and (len(batch) == args.batch_size or batch[0][2].pixels.shape != view.pixels.shape):
            yield batch
            batch = []
        batch.append((item, output, view))
    if batch:
        yield batch


def _distances(args: argparse.Namespace, explainer: Explainer, items: list[Item], output: Output) -> dict[str, Any]:
    """One diagram of all images, computed as fast as the model runs; a state beside it lets a stopped run go on."""
    from paddle_cait.explain.distance_stream import stream_distance

    if args.fit == "whole" or args.exif:
        raise ConfigError("distance over several images takes them as in evaluation: leave out --fit whole and --exif")
    names = [str(Path(str(item.source)).resolve().relative_to("/")) for item in items]
    source = ImageSource("files", Path("/"), names, [0] * len(names), "no labels")
    transform = EvalTransform(dataclasses.replace(explainer.preprocess, img_size=explainer.img_size[0]))
    state = output.paths[0].with_name(f".{output.paths[0].stem}.state.npz")
    state.parent.mkdir(parents=True, exist_ok=True)
    found = stream_distance(
        explainer.own, ImageDataset(source, transform), batch_size=args.batch_size, on_error=args.on_error, state=state
    )
    for _, why in found.skipped[:10]:
        log.warning("skipped: %s", why)
    arrays = {"distance": found.mean, "layers": np.array(found.layers), "images": np.array(found.names)}
    picture = DistancePicture(
        f"mean attention distance over {len(found.names)} images",
        {**arrays, "spread": found.spread, "by_image": found.values},
        found.spread,
    )
    row = _write(args, output, picture, None, [picture.about])
    state.unlink(missing_ok=True)
    return {"images": len(found.names), "skipped": len(found.skipped), **row}


def video(args: argparse.Namespace) -> dict[str, Any]:
    """Lay the explanation over each frame of ``--video IN OUT``."""
    from paddle_cait.explain.overlay import overlay
    from paddle_cait.explain.video import explain_video

    explainer = open_explainer(args)
    fit, chosen = args.fit or "whole", options(args)
    looks = {key: getattr(args, key) for key in ("cmap", "alpha", "interpolation") if getattr(args, key) is not None}

    def explain(frames: np.ndarray) -> np.ndarray:
        views = [explainer.view(Image.fromarray(frame), fit) for frame in frames]
        return np.stack([_heat(picture) for picture in explainer.explain(args.method, views, chosen)])

    def region(height: int, width: int) -> tuple[int, int, int, int]:
        return explainer.seen((width, height), fit)

    def draw(photo: np.ndarray, values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        return overlay(photo, values, limits=limits, **looks)

    source, target = args.video
    report = explain_video(
        source,
        target,
        explain,
        batch_size=args.batch_size,
        smooth=args.smooth,
        side_by_side=args.side_by_side,
        start=args.start,
        seconds=args.seconds,
        every=args.every,
        region=region,
        draw=draw,
    )
    for note in report.notes:
        log.info(note)
    speed = f"{report.frames_per_second:.1f} frames/s"
    print(f"{report.target}: {report.frames} frames, {report.width}x{report.height}, {speed}", flush=True)
    return {"method": args.method, "model": args.model, "weights": args.weights, **dataclasses.asdict(report)}


def _heat(picture: Picture) -> np.ndarray:
    if not isinstance(picture, HeatPicture):
        raise ConfigError("this method gives no map to lay over a frame")
    return picture.heat


def _write(
    args: argparse.Namespace, output: Output, picture: Picture, photo: np.ndarray | None, about: list[str]
) -> dict[str, Any]:
    """The files of one picture, in each format asked for."""
    caption = f"{'; '.join(about)}. {args.model}, weights {Path(args.weights).name}."
    style = {key: getattr(args, key) for key in LOOKS if getattr(args, key) is not None}
    for path in output.paths:
        if path.suffix.lower() == ARRAYS:
            write_arrays(path, {**picture.arrays, "caption": np.array(caption)})
            continue
        from paddle_cait.explain.render import save_figure

        save_figure(picture.figure(photo, caption, **style), path, args.dpi)
    files = [str(path) for path in output.paths]
    print("\n".join(files), flush=True)
    return {"files": files, "error": None}


def _is_place(text: str) -> bool:
    return text.lstrip("-").isdigit()


def _number(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"--head {text}: expected numbers from 0, or `mean` alone")
    return int(text)
