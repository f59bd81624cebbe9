"""The arrows of import: who may know whom. Read from the source, so a lazy import inside a function counts too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "paddle_cait"

# room -> rooms it may import (besides itself). Anything not listed is forbidden.
BASE = {"errors", "files", "versions", "presets"}
ARROWS = {
    "errors": set(),
    "versions": set(),
    "files": {"errors"},
    "yaml_files": {"errors", "files"},
    "presets": {"errors", "files", "yaml_files"},
    "runtime": {"errors"},
    "layers": {"errors"},
    "models": {"errors", "layers"},
    "weights": BASE,  # knows no model class: it is handed a built model
    "data": BASE,  # likewise
    "engine": BASE | {"data"},
    "factory": BASE | {"models", "weights"},
    "conversion": BASE | {"factory", "weights"},
    "explain": BASE | {"layers", "data"},  # handed a built model, knows no class of them
    "app": BASE | {"runtime", "factory", "weights", "data", "deploy", "explain"},
    "training": BASE | {"data", "engine", "factory", "weights"},
    "bench": BASE | {"runtime", "factory", "weights", "data", "deploy"},
    "deploy": BASE | {"layers", "models", "weights", "data", "runtime", "factory"},  # fusing takes models apart
    "cli": BASE
    | {
        "yaml_files",
        "runtime",
        "layers",
        "models",
        "weights",
        "data",
        "engine",
        "training",
        "deploy",
        "explain",
        "app",
        "bench",
        "factory",
        "conversion",
        "cli",
    },
    "__init__": BASE | {"factory", "conversion", "weights", "data", "engine", "deploy", "explain"},
    "__main__": {"cli"},
}
STANDARD_AND_YAML = {"presets", "yaml_files", "files", "errors"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    own = room(path)
    assert own in ARROWS, f"{own} is a new room: say in this test whom it may import"
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != "tools", f"{path}: nothing imports tools"
        if parts[0] == "paddle_cait" and len(parts) > 1 and parts[1] != own:
            assert parts[1] in ARROWS[own] or parts[1] == "__version__", f"{path}: {own} may not import {parts[1]}"


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda p: p.name)
def test_tools_only_call_the_command_line(path):
    ours = {name for name in imports(path) if name.startswith("paddle_cait")}
    assert ours == {"paddle_cait.cli.main.run_verb"}


def test_presets_need_only_the_standard_library_and_yaml():
    for own in STANDARD_AND_YAML:
        top = {name.split(".")[0] for name in imports(PACKAGE / f"{own}.py")}
        assert top.isdisjoint({"numpy", "paddle", "PIL", "cv2", "tqdm"}), own


def test_weights_name_no_model_class():
    classes = {
        node.name
        for path in (PACKAGE / "models").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    assert {"CaiT", "DinoV2"} <= classes
    for path in (PACKAGE / "weights").glob("*.py"):
        assert classes.isdisjoint(n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.alias))
