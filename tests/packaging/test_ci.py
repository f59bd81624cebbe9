"""The workflow of the public host runs what ``.ci/run`` runs, in its order, and needs nothing but the repository."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def job():
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]["ci"]


def test_it_runs_what_ci_run_runs():
    script = (ROOT / ".ci" / "run").read_text()
    ours = re.findall(r"^(?:make|python|pip|pytest)\b.*", script, re.M)
    assert ours and [step["run"] for step in job()["steps"] if "run" in step] == ours
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {command.removeprefix("make ") for command in ours} <= set(targets)


def test_it_needs_no_secret_and_names_no_registry():
    text = WORKFLOW.read_text()
    assert not re.search(r"secrets\.|password|token|://|index-url", text, re.I)
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
