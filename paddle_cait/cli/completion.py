"""Print a script that completes verbs, flags, model names and files when TAB is pressed, for bash, zsh or fish.

The script holds all that it needs, so TAB starts no Python; write it anew after an update. Where shells look for it:
  bash:  ~/.local/share/bash-completion/completions/paddle-cait (with the package bash-completion; else `source` it)
  zsh:   _paddle-cait in a folder of $fpath, before compinit runs; or `source` it after compinit
  fish:  ~/.config/fish/completions/paddle-cait.fish"""

from __future__ import annotations

import argparse
import importlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from paddle_cait.presets import list_presets

EXAMPLE = "paddle-cait completion bash > ~/.local/share/bash-completion/completions/paddle-cait"

ANY = 99  # a flag that takes as many values as are given


@dataclass(frozen=True)
class Argument:
    """A flag, or a positional argument (no ``flags``). ``words`` are its values; without them ``files`` may be."""

    flags: tuple[str, ...]
    about: str
    takes: int  # values
    words: tuple[str, ...]
    files: bool


@dataclass(frozen=True)
class Verb:
    name: str
    about: str
    arguments: tuple[Argument, ...]

    @property
    def flags(self) -> list[Argument]:
        return [argument for argument in self.arguments if argument.flags]

    @property
    def places(self) -> list[Argument]:
        """Positional arguments."""
        return [argument for argument in self.arguments if not argument.flags]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help=", ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    print(SHELLS[args.shell](read_verbs()), end="")
    return 0


def read_verbs() -> list[Verb]:
    """All verbs and what they take, from their parsers."""
    from paddle_cait.cli.main import VERBS

    known = _known_words()
    verbs = []
    for name, (module, about) in VERBS.items():
        parser = argparse.ArgumentParser()
        importlib.import_module(f"paddle_cait.cli.{module}").add_arguments(parser)
        verbs.append(Verb(name, about, tuple(_argument(action, known) for action in parser._actions)))
    return verbs


def _known_words() -> dict[str, tuple[str, ...]]:
    """Destination of an argument -> values that no parser lists, since people may have presets of their own."""
    presets = list_presets()
    names = dict.fromkeys(name for p in presets for name in (p.name, p.full_name))
    return {
        **dict.fromkeys(("model", "teacher_model", "pattern", "names"), tuple(names)),
        "family": tuple(dict.fromkeys(p.family for p in presets)),
        "suite": tuple(dict.fromkeys(p.collection for p in presets)),
    }


def _argument(action: argparse.Action, known: dict[str, tuple[str, ...]]) -> Argument:
    nargs = action.nargs
    about = argparse.HelpFormatter("")._expand_help(action) if action.help else ""
    return Argument(
        flags=tuple(action.option_strings),
        about=" ".join(about.split()),
        takes=nargs if isinstance(nargs, int) else ANY if nargs in ("*", "+") else 1,
        words=tuple(map(str, action.choices)) if action.choices else known.get(action.dest, ()),
        files=action.type not in (int, float),
    )


# bash: one function that finds the verb and the flag whose value is typed. It runs in bash 3.2, macOS's, too.

BASH = """\
# Completion of paddle-cait for bash; written by `paddle-cait completion bash`.
_paddle_cait() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}}
    local flag= given=0 takes=0 words= flags= places= most=0 i
    local models='{models}'
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '{verbs}' -- "$word"))
        return
    fi
    [[ $word == = ]] && word=  # --flag=value comes as three words
    for ((i = COMP_CWORD - 1; i > 1; i--)); do
        case ${{COMP_WORDS[i]}} in
            =) ;;
            -[!0-9]*) flag=${{COMP_WORDS[i]}}; break ;;
            *) ((given++)) ;;
        esac
    done
    case $verb in
{cases}
    esac
    ((given >= takes)) && words=
    [[ -z $flag ]] && ((given < most)) && words=$places
    [[ $word == -* ]] && words=$flags
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _paddle_cait paddle-cait  # default: files, where there are no words
"""


def bash(verbs: list[Verb]) -> str:
    models = _model_names()
    cases = "\n".join(line for verb in verbs for line in _bash_case(verb, models))
    names = " ".join([*(verb.name for verb in verbs), "--help", "--version"])
    return BASH.format(models=" ".join(models), verbs=names, cases=cases)


def _bash_case(verb: Verb, models: tuple[str, ...]) -> Iterator[str]:
    flags = " ".join(flag for argument in verb.flags for flag in argument.flags)
    yield f"        {verb.name})"
    yield f"            flags='{flags}'"
    first = verb.places[0] if verb.places else Argument((), "", 1, tuple(flags.split()), False)
    yield f"            most={first.takes} places={_bash_words(first.words, models)}"
    alike: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for argument in verb.flags:
        if argument.takes:
            alike.setdefault((argument.takes, argument.words), []).extend(argument.flags)
    yield "            case $flag in"
    for (takes, words), names in alike.items():
        yield f"                {'|'.join(names)}) takes={takes} words={_bash_words(words, models)} ;;"
    yield "            esac"
    yield "            ;;"


def _bash_words(words: tuple[str, ...], models: tuple[str, ...]) -> str:
    return "$models" if words == models else f"'{' '.join(words)}'"


# zsh: its own _arguments, which shows what a flag is for.

ZSH = """\
#compdef paddle-cait
# Completion of paddle-cait for zsh; written by `paddle-cait completion zsh`.
_paddle_cait() {{
    local -a models verbs
    models=({models})
    verbs=({verbs})
    if ((CURRENT == 2)); then
        _describe verb verbs
        return
    fi
    local verb=$words[2]
    shift words
    ((CURRENT--))
    case $verb in
{cases}
    esac
}}
if [[ $funcstack[1] == _paddle-cait ]]; then _paddle_cait "$@"; else compdef _paddle_cait paddle-cait; fi
"""


def zsh(verbs: list[Verb]) -> str:
    models = _model_names()
    cases = []
    for verb in verbs:
        specs = [_zsh_spec(argument, flag, models) for argument in verb.arguments for flag in argument.flags or ("",)]
        cases.append(f"        {verb.name}) _arguments {' '.join(map(shlex.quote, specs))} ;;")
    described = " ".join(shlex.quote(f"{verb.name}:{verb.about}") for verb in verbs)
    return ZSH.format(models=" ".join(models), verbs=described, cases="\n".join(cases))


def _zsh_spec(argument: Argument, flag: str, models: tuple[str, ...]) -> str:
    action = "_files" if argument.files else " "
    if argument.words:
        action = "($models)" if argument.words == models else f"({' '.join(argument.words)})"
    about = "".join(f"\\{sign}" if sign in "[]\\:" else sign for sign in argument.about)
    if not flag:
        return f"{'*' if argument.takes == ANY else ''}:{about}:{action}"
    equals = "=" if argument.takes == 1 and flag.startswith("--") else ""  # --flag=value is another way to say it
    value = f":value:{action}"
    values = value + f":{value}" * 9 if argument.takes == ANY else value * argument.takes  # two colons: may be left out
    return f"({' '.join(argument.flags)}){flag}{equals}[{about}]{values}"


# fish: one line a flag.

FISH = """\
# Completion of paddle-cait for fish; written by `paddle-cait completion fish`.
function __paddle_cait_verb
    set -l words (commandline -opc)
    test "$words[2]" = "$argv[1]"
end
set -l models {models}
complete -c paddle-cait -f
"""


def fish(verbs: list[Verb]) -> str:
    models = _model_names()
    lines = [FISH.format(models=" ".join(models)).rstrip("\n")]
    for verb in verbs:
        about = shlex.quote(verb.about)
        lines.append(f"complete -c paddle-cait -n '__paddle_cait_verb \"\"' -a {verb.name} -d {about}")
        lines += [_fish_line(verb.name, argument, models) for argument in verb.arguments]
    return "\n".join(lines) + "\n"


def _fish_line(verb: str, argument: Argument, models: tuple[str, ...]) -> str:
    line = [f"complete -c paddle-cait -n '__paddle_cait_verb {verb}'"]
    line += [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in argument.flags]
    if argument.words:
        words = "$models" if argument.words == models else " ".join(argument.words)
        line.append(f'-x -a "{words}"')
    elif argument.takes:
        line.append("-r -F" if argument.files else "-x")
    if argument.flags and argument.about:
        line.append(f"-d {shlex.quote(argument.about)}")
    return " ".join(line)


def _model_names() -> tuple[str, ...]:
    return _known_words()["model"]


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
