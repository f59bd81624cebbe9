"""What several verbs share: the ``--json`` report, the ``-c``/``-o`` configuration, and checkpoints that describe
themselves."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from paddle_cait.errors import ConfigError
from paddle_cait.files import PathLike, write_atomic
from paddle_cait.presets import get_preset
from paddle_cait.versions import versions
from paddle_cait.yaml_files import read_yaml

if TYPE_CHECKING:
    from paddle_cait.weights.trained import Trained

log = logging.getLogger("paddle_cait")

CHECKPOINT = "any supported checkpoint; `official`: the authors' own, downloaded once"  # help of --weights


def add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", metavar="FILE", help="also write the result for machines, with versions")


def write_json(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """The verb's result at ``--json FILE``, if that was asked for."""
    if args.json:
        text = json.dumps({"versions": versions(), **result}, indent=2, ensure_ascii=False, default=str)
        write_atomic(args.json, text.encode() + b"\n")


def fetch_official(args: argparse.Namespace, flag: str = "weights") -> None:
    """``--weights official`` is the authors' file of ``--model``, downloaded once; other words stay as they are."""
    if getattr(args, flag) != "official":
        return
    if not args.model:
        raise ConfigError(f"--{flag} official: whose? give --model, the preset's name")
    from paddle_cait.weights.cache import official_weights  # numpy, which `list` does without

    setattr(args, flag, str(official_weights(get_preset(args.model, args.preset_file)).path))


def take_from_checkpoint(args: argparse.Namespace, path: PathLike, but: Collection[str] = ()) -> Trained | None:
    """Give flags that were left out (model, number of classes, image size, class names), all ``but`` these, what a
    fine-tuned checkpoint says of itself (:mod:`paddle_cait.weights.trained`); None for other files."""
    from paddle_cait.weights.trained import read_trained  # numpy, which `list` does without

    trained = read_trained(path)
    if trained is not None:
        taken = trained.complete({key: value for key, value in vars(args).items() if key not in but})
        vars(args).update(taken)
        told = ", ".join(f"{key} {value}" for key, value in taken.items() if key != "class_names")
        if told:
            log.info("%s says: %s", trained.file, told)
    return trained


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="YAML file of flags (long names); flags given here win")
    parser.add_argument("-o", "--override", metavar="KEY=VALUE", action="append", default=[], help="set one config key")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse flags; those of ``-c`` and ``-o`` come first, so that flags on the command line win."""
    argv = list(sys.argv[1:] if argv is None else argv)
    flags = {action.dest: action for action in parser._actions if action.option_strings}
    if "config" not in flags:
        return parser.parse_args(argv)
    first = argparse.ArgumentParser(add_help=False)
    add_config(first)
    given, _ = first.parse_known_args(argv)
    return parser.parse_args([word for item in _settings(given) for word in _as_words(flags, *item)] + argv)


def _settings(given: argparse.Namespace) -> Iterator[tuple[str, str, Any]]:
    """(where from, key, value) of the config file, then of the overrides."""
    if given.config:
        content = read_yaml(given.config) or {}
        if not isinstance(content, dict):
            raise ConfigError(f"{given.config}: expected `flag: value` lines")
        for key, value in content.items():
            yield given.config, str(key), value
    for item in given.override:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"-o {item}: expected KEY=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"-o {item}: {text!r} is not valid YAML; put text with such signs in quotes") from error
        yield f"-o {item}", key, value


def _as_words(flags: dict[str, argparse.Action], origin: str, key: str, value: Any) -> list[str]:
    """``batch_size: 64`` -> ``--batch-size 64``, so that a config is checked exactly as flags are."""
    action = flags.get(key.replace("-", "_"))
    if action is None or action.dest in ("config", "override", "help"):
        near = difflib.get_close_matches(key, flags, n=2)
        raise ConfigError(
            f"{origin}: unknown key {key!r}: " + (f"did you mean {' or '.join(near)}?" if near else "see --help")
        )
    flag = action.option_strings[-1]
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            raise ConfigError(f"{origin}: {key} is {value!r}, expected true or false")
        return [flag] if value else []
    if value is None:
        return []
    return [flag, *(str(item) for item in (value if isinstance(value, list) else [value]))]
