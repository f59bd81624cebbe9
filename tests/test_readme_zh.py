"""README.md and README_zh.md say the same: headings, code, output, tables, numbers, `code`, links. Needs no Paddle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README_zh.md").read_text(encoding="utf-8")

LANGUAGE_LINE = re.compile(r"^.*\]\(README(?:_zh)?\.md\).*\n+", re.M)
MARK = "<!--.*-->$"  # a comment of HTML on its line: where a generated table begins and ends
CHUNK = re.compile(rf"^```[\s\S]*?^```$|^#+ .*$|^{MARK}|(?:^(?!```|#+ |{MARK}).+\n?)+", re.M)
IMAGE = re.compile(r"!\[([^\]]*)\]")
COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
FACTS = {  # what a translation keeps, whatever the order
    "code": re.compile(r"`([^`]+)`"),
    "link": re.compile(r"\]\(([^)]+)\)"),
    "number": re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?"),
    # PaddleViT, ONNX, PASS; the plural of ViTs is English alone
    "name": re.compile(r"[A-Za-z]*[A-Z][a-z]*[A-Z][A-Za-z]*?(?=(?<=[A-Z])s(?![A-Za-z])|(?![A-Za-z]))"),
}


class Piece(NamedTuple):
    """A paragraph, an image's text, a point, a cell of a table, a mark, output, code, or one of the code's comments."""

    kind: str
    text: str


def _pieces(chunk: str) -> Iterator[Piece]:
    """What stands between two blank lines (or one fenced block)."""
    lines = chunk.splitlines()
    if chunk.startswith("<!--"):
        yield Piece("mark", chunk)
    elif chunk.startswith("```text"):
        yield Piece("output", chunk)
    elif chunk.startswith("```"):
        code = (COMMENT.sub("", line).rstrip() for line in lines)
        yield Piece("block", "\n".join(line for line in code if line))
        yield from (Piece("comment", found[0]) for line in lines for found in COMMENT.finditer(line))
    elif chunk.startswith("|"):
        for y, line in enumerate(lines):
            for x, cell in enumerate(re.split(r"(?<!\\)\|", line.strip())[1:-1]):
                yield Piece(f"table row {y + 1} column {x + 1}", cell.strip())
    else:
        kind = "point" if chunk.startswith("- ") else "paragraph"
        for part in re.split(r"\n(?=- )", chunk):
            yield Piece(kind, " ".join(part.split()))
            yield from (Piece("image", alt) for alt in IMAGE.findall(part))


def sections(text: str) -> list[tuple[str, list[Piece]]]:
    """Each heading, ``## Models``, with the pieces below it. The line that leads to the other language is left out."""
    found: list[tuple[str, list[Piece]]] = [("(top)", [])]
    for match in CHUNK.finditer(LANGUAGE_LINE.sub("", text)):
        chunk = match[0].strip()
        if chunk.startswith("#"):
            found.append((chunk, []))
        else:
            found[-1][1].extend(_pieces(chunk))
    return found


def facts(text: str) -> dict[str, Counter[str]]:
    """Each kind of fact: value -> how often it stands there (a name: whether). What is `code` counts as that alone."""
    found = {}
    for kind, pattern in FACTS.items():
        values = pattern.findall(text)
        found[kind] = Counter(set(values) if kind == "name" else values)
        text = pattern.sub(" ", text)
    return found


def differences(english: str, chinese: str) -> list[str]:
    """A line for each place where the two are not in step; it names the section."""
    ours, theirs = sections(english), sections(chinese)
    for one, other in zip_longest(ours, theirs, fillvalue=("no heading", [])):
        if one[0].split()[0] != other[0].split()[0]:
            return [f"headings: {one[0]!r} in one language, {other[0]!r} in the other"]
    said = []
    for (heading, here), (name, there) in zip(ours, theirs):
        where = f"section {heading!r} ({name!r})"
        said += [f"{where}: {what}" for what in _compared(Piece("heading", heading), Piece("heading", name))]
        kinds = [piece.kind for piece in here], [piece.kind for piece in there]
        if kinds[0] != kinds[1]:
            first = next((a or b for a, b in zip_longest(*kinds) if a != b), "")
            said.append(f"{where}: {len(kinds[0])} pieces in English, {len(kinds[1])} in Chinese, from a {first} on")
            continue
        for one, other in zip(here, there):
            said += [f"{where}, {one.kind} {one.text[:40]!r}: {what}" for what in _compared(one, other)]
    return said


def _compared(one: Piece, other: Piece) -> Iterator[str]:
    if one.kind in ("block", "output", "mark"):
        for a, b in zip_longest(one.text.splitlines(), other.text.splitlines()):
            if a != b:
                yield f"{a!r} in English, {b!r} in Chinese"
        return
    if one.kind in ("point", "paragraph", "image", "comment") and not re.search(r"[\u4e00-\u9fff]", other.text):
        yield "not translated"
    there = facts(other.text)
    for kind, here in facts(one.text).items():
        for value in here.keys() | there[kind].keys():
            if here[value] != there[kind][value]:
                yield f"{kind} {value!r}: {here[value]} times in English, {there[kind][value]} in Chinese"


def test_the_two_are_in_step():
    found = differences(ENGLISH, CHINESE)
    assert not found, "README.md and README_zh.md differ:\n" + "\n".join(found)


def test_each_leads_to_the_other():
    assert "[简体中文](README_zh.md)" in ENGLISH.split("\n## ")[0]
    assert "[English](README.md)" in CHINESE.split("\n## ")[0]


def test_what_it_links_to_exists():
    for target in FACTS["link"].findall(CHINESE):
        assert (ROOT / target.partition("#")[0]).exists(), target


SMALL = """# name

Text of `code`, ViTs and 3.5, see [there](a.md).

```
$ run --fast 2    # in 4 s
```

```text
# 9 lines
```

![A cat](cat.png)

## 1. Part

- one `x`
- two

<!-- begin numbers -->

| what | n |
| --- | --- |
| a | 1e-5 |
| b | `y` 7 |

<!-- end numbers -->
"""
SMALL_ZH = """# name

[English](README.md) | **简体中文**

数字 3.5、ViT 与 `code`，见[那里](a.md)。

```
$ run --fast 2    # 用 4 秒
```

```text
# 9 lines
```

![一只猫](cat.png)

## 1. 部分

- 一 `x`
- 二

<!-- begin numbers -->

| 内容 | n |
| --- | --- |
| 甲 | 1e-5 |
| 乙 | 7 `y` |

<!-- end numbers -->
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("`code`", "`other`", "'# name'"),
        ("3.5", "3.4", "number '3.5'"),
        ("a.md", "b.md", "link 'a.md'"),
        ("ViT", "CaiT", "name 'ViT'"),
        ("--fast 2", "--fast 3", "run --fast 3"),
        ("用 4", "用 5", "number '4'"),
        ("# 用 4 秒", "", "comment"),
        ("# 用 4 秒", "# in 4 s", "not translated"),
        ("# 9 lines", "# 9 行", "# 9 行"),
        ("一只猫", "A cat", "image 'A cat': not translated"),
        ("cat.png", "dog.png", "link 'cat.png'"),
        ("## 1. 部分", "### 1. 部分", "headings"),
        ("## 1. 部分", "## 1. 部分\n\n多\n\n## 再多", "headings"),
        ("## 1. 部分", "## 2. 部分", "number '1'"),
        ("- 二\n", "", "'## 1. Part'"),
        ("- 二\n", "- two\n", "not translated"),
        ("`x`", "x", "code 'x'"),
        ("1e-5", "1e-6", "table row 3 column 2"),
        ("| 甲 | 1e-5 |\n", "", "'## 1. Part'"),
        (" 7 `y` |", " 7 | `y` |", "'## 1. Part'"),
        ("<!-- end numbers -->", "<!-- end names -->", "mark"),
        ("<!-- end numbers -->", "<!-- end numbers --> more", "'## 1. Part'"),
        ("<!-- begin numbers -->\n\n", "", "'## 1. Part'"),
    ],
)
def test_it_can_fail(old, new, said):
    assert differences(SMALL, SMALL_ZH) == []
    assert old in SMALL_ZH
    assert said in "\n".join(differences(SMALL, SMALL_ZH.replace(old, new)))
