"""The completion scripts, asked as shells ask them. They are made from the parsers, so every flag is there."""

import argparse
import importlib
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

import paddle_cait as pc
from paddle_cait.cli.completion import SHELLS, read_verbs
from paddle_cait.cli.main import VERBS

ASK = """
source ./script
while read -ra COMP_WORDS; do
    [[ ${COMP_WORDS[-1]} == _ ]] && COMP_WORDS[-1]=
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _paddle_cait
    echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell, write in SHELLS.items():
        (folder / shell).write_text(write(read_verbs()))
    return folder


@pytest.fixture(scope="module")
def bash(scripts):
    """Answers to command lines whose last word is being typed; ``_`` is an empty one."""
    (scripts / "script").write_text((scripts / "bash").read_text())

    def ask(*lines):
        words = "".join(f"paddle-cait {line}\n" for line in lines)
        line = ["bash", "--norc", "-c", ASK]
        done = subprocess.run(line, input=words, cwd=scripts, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return [answer.split() for answer in done.stdout.splitlines()]

    return ask


def flags(verb):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"paddle_cait.cli.{VERBS[verb][0]}").add_arguments(parser)
    return [flag for action in parser._actions for flag in action.option_strings]


def test_bash_knows_every_verb_and_every_flag(bash):
    assert bash("_") == [[*VERBS, "--help", "--version"]]
    assert dict(zip(VERBS, bash(*(f"{verb} -" for verb in VERBS)))) == {verb: flags(verb) for verb in VERBS}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ev", ["eval"]),
        ("eval --on-error _", ["stop", "skip"]),
        ("eval --on-error sk", ["skip"]),
        ("eval --on-error =", ["stop", "skip"]),  # bash splits words at =
        ("eval --on-error = sk", ["skip"]),
        ("eval --limit 5 --preprocess _", ["official", "timm"]),
        ("eval --mean 0.5 0.5 0.5 --crop-m", ["--crop-mode"]),
        ("eval --list --cr", ["--crop-pct", "--crop-mode"]),  # a flag is a flag, even where a value was expected
        ("list --family dino", ["dino", "dinov2"]),
        ("explain roll", ["rollout"]),
        ("explain rollout --format png pd", ["pdf"]),
        ("explain rollout --layer -1 --form", ["--format"]),
        ("explain rollout _", []),
        ("doctor _", ["-h", "--help", "--json"]),
        ("nothing _", []),
    ],
)
def test_bash_completes_what_is_typed(bash, line, expected):
    assert bash(line) == [expected]


@pytest.mark.parametrize("line", ["eval --weights _", "eval --json _", "convert _", "eval --on-error stop -c x"])
def test_bash_leaves_files_to_the_shell(scripts, bash, line):
    assert bash(line) == [[]]
    assert "complete -o default -F" in (scripts / "bash").read_text()


def test_bash_knows_the_models(bash):
    tags = [p.full_name for p in pc.presets.list_presets()]
    for line in ("eval --model _", "finetune --teacher-model _", "convert a.pth b.pdparams --model _", "list _"):
        (found,) = bash(line)
        assert sorted(found) == sorted([*pc.list_models(), *tags])
    if "download" in VERBS:
        assert bash("download deit_tiny_patch16_224 cait_m48") == bash("eval --model cait_m48")
    assert bash("eval --model cait_m48") == [["cait_m48_448", "cait_m48_448.fb_dist_in1k"]]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_valid(scripts, shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", scripts / shell], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


def test_zsh_knows_every_verb_and_every_flag(scripts):
    cases = re.findall(r"^        (\w+)\) _arguments (.*) ;;$", (scripts / "zsh").read_text(), re.M)
    found = {verb: re.findall(r"'\([^)]*\)(-[\w-]+)=?\[", specs) for verb, specs in cases}
    assert found == {verb: flags(verb) for verb in VERBS}


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_what_is_typed(scripts):
    def ask(line):
        command = f"source {scripts}/fish; complete -C 'paddle-cait {line}'"
        done = subprocess.run(["fish", "--no-config", "-c", command], capture_output=True, text=True)
        return sorted(answer.partition("\t")[0] for answer in done.stdout.splitlines())

    assert ask("") == sorted(VERBS)
    assert ask("eval --") == sorted(flag for flag in flags("eval") if flag.startswith("--"))
    assert ask("eval --model cait_m48") == ["cait_m48_448", "cait_m48_448.fb_dist_in1k"]
    assert ask("eval --on-error ") == ["skip", "stop"]


def test_the_command_prints_a_script_without_paddle(scripts):
    program = (
        "import sys; from paddle_cait.cli.main import main\n"
        "assert main(['completion', 'bash']) == 0 and 'paddle' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == (scripts / "bash").read_text(), done.stderr
