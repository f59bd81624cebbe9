"""The site: ``sphinx-build -W -n --keep-going -b html docs docs/_build/html`` (``pip install -e '.[docs]'``).

Pages are Markdown, which reads as well in the repository as here. The API pages are made from docstrings, so Paddle is
imported; nothing is downloaded.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
os.environ.setdefault("GLOG_minloglevel", "2")

from paddle_cait import runtime  # noqa: E402
from paddle_cait.versions import __version__  # noqa: E402

runtime.prepare("cpu")  # imports Paddle without its remarks

project = "paddle_cait"
release = version = __version__
copyright = "the paddle_cait authors"  # noqa: A001  the name that Sphinx reads
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "aistudio"]  # notebooks are read on AI Studio
highlight_language = "text"
smartquotes = False  # messages stand as they are printed

html_theme = "furo"
html_title = f"paddle_cait {__version__}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 3

# Docstrings are Google's style in the project's plain words; a single backtick holds code, as it does in Markdown.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # nn.Layer's would speak of examples that are not ours
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100

# Types of other projects: their inventories would have to be downloaded, so they have no link.
nitpick_ignore_regex = [
    (r"py:.*", r"(paddle|nn)\..*|Tensor"),  # Paddle
    (r"py:.*", r"(numpy|np|PIL)\..*|Image\.Image"),  # NumPy, Pillow
    (r"py:.*", r"Figure"),  # matplotlib
    (r"py:.*", r"(argparse|collections|contextlib|os|pathlib|re|typing)\..*|Path|Any|Callable"),  # Python's own
]
# What the package hands from one function to another, and no reader makes or takes apart.
nitpick_ignore = [
    ("py:class", "paddle_cait.models.vit.Block"),  # what a descendant of the ViT builds otherwise
    ("py:class", "paddle_cait.weights.tensors.Inert"),  # what stands where a pickle had an object
    ("py:class", "Inert"),
]


# Where the site has a page of its own for what the repository keeps elsewhere: link as written -> page of the site.
ELSEWHERE = {
    "../README.md#importing": "converting.md#another-image-size",
    "../CONTRIBUTING.md": "contributing.md",
}


# What a page is given on the site alone: a list of pages that reads as noise in the repository.
ADDED = {"benchmarks/README": "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"}


def adapt(app, docname, source):
    """A page as the repository has it, for the site."""
    for written, page in ELSEWHERE.items():
        source[0] = source[0].replace(f"]({written})", f"]({page})")
    source[0] += ADDED.get(docname, "")


def resolve_by_name(app, env, node, contnode):
    """A docstring names things as the code around it does; such a name means the one documented object that has it."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain = env.domains.python_domain
    ends = re.compile(rf"(.*\.)?{re.escape(target.rpartition('.')[2])}$")
    found = {name: entry for name, entry in domain.objects.items() if ends.match(name) and not entry.aliased}
    if len(found) != 1:
        return None
    ((name, entry),) = found.items()
    from sphinx.util.nodes import make_refnode

    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def plain_signature(app, what, name, obj, options, signature, return_annotation):
    """``<factory>``, as dataclasses show a default that is made anew, is no Python, and Sphinx would read no type."""
    return (signature or "").replace("<factory>", "...") or None, return_annotation


def indented_is_code(app, what, name, obj, options, lines):
    """In docstrings an indented paragraph after an unindented one is code, without RST's two colons."""
    for i in range(len(lines) - 1, 1, -1):
        before = next((line for line in reversed(lines[:i]) if line), "")
        if lines[i].startswith("    ") and not lines[i - 1] and before[:1].strip() and not before.endswith(":"):
            lines[i:i] = ["::", ""]


def properties_as_written(app, what, name, obj, options, lines):
    """Napoleon takes what stands before a colon in a property's first line for its type; here it is a sentence."""
    if what == "property" and obj.__doc__:
        lines[:] = [*inspect.cleandoc(obj.__doc__).split("\n"), ""]


def setup(app):
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("autodoc-process-docstring", indented_is_code, priority=400)  # before Napoleon's 500
    app.connect("autodoc-process-docstring", properties_as_written, priority=600)  # after it
    app.connect("source-read", adapt)
    app.connect("missing-reference", resolve_by_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
