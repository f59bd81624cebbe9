"""The API pages are made of docstrings: what is public has one, which names its fields, or the shapes of a forward."""

import ast
import dataclasses
import inspect
import re
import textwrap
from importlib import import_module

import pytest
from doc_pages import ROOT
from test_site import DOCUMENTED

import paddle_cait as pc


def look_up(name):
    """What a page calls ``paddle_cait.room.module.Name``."""
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


def has_docstring_of_its_own(found):
    """Tuples and strings have that of their type."""
    return inspect.isclass(found) or inspect.isfunction(found) or inspect.ismodule(found)


NAMES = sorted({*DOCUMENTED, *(f"paddle_cait.{name}" for name in pc.__all__)})
SHOWN = {name: found for name in NAMES if has_docstring_of_its_own(found := look_up(name))}
CLASSES = {name: found for name, found in SHOWN.items() if inspect.isclass(found)}


def text_of(found):
    return inspect.cleandoc(found.__doc__ or "")


def named_in(text):
    """The names that a docstring speaks of: those in double backticks, and the entries of its sections."""
    names = set(re.findall(r"``(\w+)(?:\[\w+\])?``", text))
    for entry in re.findall(r"^    (\w+(?:, \w+)*): ", text, re.M):
        names.update(entry.split(", "))
    return names


def unnamed_fields(kind):
    """The fields of a dataclass that its docstring does not name."""
    return [field.name for field in dataclasses.fields(kind) if field.name not in named_in(text_of(kind))]


def silent_members(kind):
    """Public methods and properties of a class, its own and not inherited ones, that have no docstring."""
    silent = []
    for name, member in vars(kind).items():
        found = getattr(member, "__func__", member)  # of a classmethod or staticmethod
        if isinstance(found, property) or inspect.isfunction(found):
            public = not name.startswith("_") or name == "__call__"
            silent += [name] if public and not text_of(found) else []
    return silent


def shapeless_layers(source):
    """Public layers in a module's source whose forward, nor they themselves, say the shape of what goes in or out."""
    found = []
    for kind in ast.parse(source).body:
        if isinstance(kind, ast.ClassDef) and not kind.name.startswith("_"):
            forward = next((node for node in kind.body if getattr(node, "name", "") == "forward"), None)
            told = [ast.get_docstring(node) or "" for node in (kind, forward) if node]
            if forward and not any(re.search(r"\[B\b|\[\.\.\.|[Ss]hapes: ", text) for text in told):
                found.append(kind.name)
    return found


@pytest.mark.parametrize("name", SHOWN)
def test_it_has_a_docstring(name):
    found = SHOWN[name]
    assert text_of(found), name
    assert not inspect.isclass(found) or not silent_members(found), f"{name}: {silent_members(found)}"


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if dataclasses.is_dataclass(kind)])
def test_every_field_is_named(name):
    assert not unnamed_fields(CLASSES[name]), f"{name}: {unnamed_fields(CLASSES[name])}"


def test_a_forward_on_the_pages_says_its_shapes():
    forwards = {name: vars(kind)["forward"] for name, kind in CLASSES.items() if "forward" in vars(kind)}
    assert len(forwards) > 4
    assert not [name for name, forward in forwards.items() if "->" not in text_of(forward)]


@pytest.mark.parametrize("room", ("layers", "models", "deploy"))
def test_every_layer_says_its_shapes(room):
    found = {path.name: shapeless_layers(path.read_text()) for path in (ROOT / "paddle_cait" / room).glob("*.py")}
    assert not {name: layers for name, layers in found.items() if layers}


def test_what_is_missing_is_found():
    @dataclasses.dataclass
    class Sample:
        """``told``: in backticks. Not silent, nor hidden.

        Args:
            first, second: in a section.
        """

        told: int
        first: int
        second: int
        silent: int

        def forward(self): ...

        @property
        def hidden(self): ...

    assert unnamed_fields(Sample) == ["silent"]
    assert silent_members(Sample) == ["forward", "hidden"]
    assert shapeless_layers(textwrap.dedent(inspect.getsource(Sample))) == ["Sample"]
