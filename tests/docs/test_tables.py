"""What the pages say of the code: generated tables, lists of names, messages, files."""

import ast
import functools
import json
import re

import paddle
import pytest
from doc_pages import DOCS, ROOT, blocks
from doc_tables import BLOCKS, arrows, arrows_table, part

import paddle_cait as pc
from paddle_cait.cli.main import VERBS, main
from paddle_cait.data.ground_truth import _FIRST_IDS
from paddle_cait.data.imagenet import imagenet_wnids
from paddle_cait.layers.pos_embed import RULES
from paddle_cait.presets import Preprocess, list_presets
from paddle_cait.weights.layouts import LAYOUTS
from paddle_cait.weights.states import ENTRIES


def text_of(page):
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def table(page, after):
    """The first column of the first table behind ``after``, as the names in backticks of each row."""
    text = text_of(page)
    rows = re.search(r"^\|.*?\n\n", text[text.index(after) :], re.M | re.S).group().splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, made in BLOCKS.items() for name in made])
def test_generated_parts_are_what_the_code_gives(page, name):
    shown = part(name, (ROOT / page).read_text(encoding="utf-8"))[2]
    assert shown.strip() == BLOCKS[page][name]().strip(), "python tests/docs/doc_tables.py writes it anew"


def test_the_picture_of_arrows_is_the_table():
    """Read back: every arrow, and no other."""
    rooms = {}
    for line in arrows().splitlines():
        if line and not line.startswith("```"):
            name, _, known = line.partition(" ")
            rooms[name] = set(known.replace("->", "").split())
    wanted = {room: known - {room} for room, known in arrows_table().items() if not room.startswith("__")}
    assert rooms.keys() == wanted.keys()
    for room, known in wanted.items():
        assert known - rooms[room] in (set(), {"errors", "files", "versions", "presets"}), room
        assert rooms[room] <= known, room


def test_files_that_the_pages_name_exist():
    """``paddle_cait/...`` as it stands; a bare ``name.py`` in the architecture's lists, somewhere in the package."""
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"`((?:paddle_cait|tests|configs|tools|docs)/[\w./]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
    for name in re.findall(r"`(\w+\.py)`", text_of("architecture")):
        assert list((ROOT / "paddle_cait").rglob(name)), name


def test_the_lists_of_ten_have_ten():
    for heading in ("From a name to a logit", "From a checkpoint to a verdict"):
        steps = text_of("architecture").partition(f"## {heading}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^(\d+)\.", steps, re.M) == [str(i) for i in range(1, 11)]


def test_names_in_tables():
    assert set(table("converting", "## Names and orientation")) == {layout.name for layout in LAYOUTS}
    assert table("converting", "## Another image size") == list(RULES)
    entries = re.search(r"the first there is of (.*?); `entry=`", text_of("converting"), re.S).group(1)
    assert tuple(re.findall(r"`(\w+)`", entries)) == ENTRIES
    readers = "".join(path.read_text() for path in (ROOT / "paddle_cait" / "weights").glob("*_files.py"))
    assert all(f'"{name}"' in readers for name in table("converting", "## Formats"))
    suites = re.search(r"Suites:\n(.*?)\.\n", text_of("validating"), re.S).group(1)
    assert set(re.findall(r"`(\w+)`", suites)) == {preset.collection for preset in list_presets()}


def test_facts_of_validating():
    text = text_of("validating")
    assert ", ".join(map(str, _FIRST_IDS)) in text
    assert f"999 is `{imagenet_wnids()[-1]}`" in text and f"label 0 is `{imagenet_wnids()[0]}`" in text
    numbers = [n for preset in list_presets() for n in (preset.published, *preset.also_published) if n]
    told = re.findall(r"^\| (0\.\d+) \|", text, re.M)
    assert {float(points) for points in told} == {n.tolerance for n in numbers}
    for reason in {n.tolerance_reason for n in numbers if n.tolerance in (0.05, 0.001)}:
        assert reason in text
    fields = "`, `".join(f"{name} is" for name in Preprocess.__dataclass_fields__)
    assert f"`{fields}`" in text


def test_its_keys_are_the_reports(tmp_path):
    digits = ROOT / "pretrained"
    report = tmp_path / "report.json"
    words = ["--model", "demo_cait_digits", "--weights", digits / "demo_cait_digits.pth", "--limit", "2"]
    words += ["--data", digits / "demo_digits" / "digits.tar", "-j", "0", "--json", report, "--output-dir", tmp_path]
    assert main(["eval", *map(str, words)]) == 0
    assert sorted(table("validating", "## For machines")) == sorted(json.loads(report.read_text()))


def test_square_matrices_of_cait():
    """80 of 157: what `converting` says of orientation."""
    with paddle.LazyGuard():
        model = pc.create_model("cait_xxs24_224")
    shapes = [layer.weight.shape for layer in model.sublayers() if isinstance(layer, paddle.nn.Linear)]
    square = sum(rows == columns for rows, columns in shapes)
    assert f"of the {len(shapes)} matrices of a CaiT-XXS24, {square} are square" in text_of("converting")


def test_numbers_repeated_from_elsewhere_are_those():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    measured = text_of("numerics").partition("### What was measured")[2].partition("### What a mistake")[0]
    numbers = re.findall(r"\d\.\de-6", measured)
    assert len(numbers) == 7 and all(number in readme for number in numbers)
    pages = {name: text_of(name) for name in ("numerics", "troubleshooting", "converting")}
    assert "6.4 s, 0.24 times its size" in readme and "6.4 s and 0.24 times its size" in pages["converting"]
    for name, number in (("cait_xxs24_224", 78.4), ("deit_base_patch16_384", 82.89), ("vit_base_patch16_224", 84.534)):
        every = [n.top1 for p in list_presets() if p.name == name for n in (p.published, *p.also_published) if n]
        assert number in every and str(number) in pages["troubleshooting"] + pages["numerics"]


# Messages: a line on the page must be a text of the code, with its fields filled in.
OWN = re.compile(r"^(?:paddle-cait \w+: error: |WARN  |FAIL  |note: )(.*)$", re.M)


@functools.cache
def texts_of_the_code():
    """Every string of the package as a pattern; the fields of an f-string stand for anything."""
    found = []
    for path in (ROOT / "paddle_cait").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = node.values if isinstance(node, ast.JoinedStr) else [node]
            literal = [one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if sum(map(len, literal)) >= 12:
                parts = [re.escape(one.value) if isinstance(one, ast.Constant) else ".*?" for one in values]
                found.append(re.compile("".join(parts), re.S))
    return found


def test_messages_are_those_of_the_code():
    page = text_of("troubleshooting") + text_of("validating")
    shown = {line for found in re.findall(r"^```text\n(.*?)^```$", page, re.M | re.S) for line in OWN.findall(found)}
    assert len(shown) > 25
    patterns = texts_of_the_code()
    unknown = [line for line in shown if not any(covers(pattern, line) for pattern in patterns)]
    assert not unknown, f"no text of the code: {unknown}"


def covers(pattern, line):
    """Does the text make up most of the line? A message may be put together from two or three."""
    found = pattern.search(line)
    return found is not None and found.end() - found.start() > 0.4 * len(line)


def test_a_message_that_is_not_the_codes_is_found():
    patterns = texts_of_the_code()
    assert not any(covers(pattern, "begins with ones: the download was not begun") for pattern in patterns)


def test_verbs_in_the_text_exist():
    for page in ("index", "validating", "converting", "numerics", "troubleshooting", "architecture"):
        named = set(re.findall(r"`paddle-cait ([a-z]+)[ `]", text_of(page)))
        assert named <= set(VERBS), f"{page}: {named - set(VERBS)}"


def test_no_page_speaks_of_what_readers_do_not_have():
    """Paths of one machine."""
    for page in (*DOCS.glob("*.md"), *DOCS.glob("api/*.md")):
        assert not re.search(r"/work/|/tmp/|/root/|venvs", page.read_text(encoding="utf-8")), page.name


def test_every_program_is_run_or_is_a_readers():
    for page in ("index", "validating", "converting", "numerics", "troubleshooting", "architecture"):
        assert {block.kind for block in blocks(DOCS / f"{page}.md")} <= {
            "bash",
            "python",
            "text",
            "console",
            "{toctree}",
        }
