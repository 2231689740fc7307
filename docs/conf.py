"""Sphinx configuration: ``sphinx-build -W --keep-going docs docs/_build/html`` needs no network."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from briskmlp.cli import main
from briskmlp.operations.activations import ACTIVATIONS
from briskmlp.operations.losses import LOSSES

project = "briskmlp"
copyright = "briskmlp developers, BSD-3-Clause"  # noqa: A001 - Sphinx's name
with Path(__file__).parent.joinpath("../pyproject.toml").open("rb") as file:
    version = release = tomllib.load(file)["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "_generated", "gallery"]
templates_path = ["_templates"]
toc_object_entries_show_parents = "hide"
nitpicky = True  # broken references are errors
default_role = "py:obj"  # single backticks in docstrings are links

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections of a docstring give types, with shapes and ranges
numpydoc_validation_checks = {"GL06", "GL07", "SS01", "PR01", "PR02", "PR03"}  # sections, and parameters one by one
# scikit-learn's parameters, the callback protocol, classes that users do not construct, parameters passed to plot()
numpydoc_validation_exclude = {r"\.MLP(Classifier|Regressor)$", r"\.on_", r"\.profiling\.[A-Z]", r"Display\.from_"}
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"briskmlp {release}"
html_static_path = ["_static"]
html_css_files = ["briskmlp.css"]
html_show_sourcelink = False
html_sidebars = {"**": ["contents"]}
html_theme_options = {
    "navbar_center": [],  # all pages are in the sidebar
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_math_renderer = "mathml"  # rendered by browsers, so the pages need no network either


def inline_math(self: Any, node: nodes.math) -> NoReturn:
    """Write an equation inside a line."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def math_block(self: Any, node: nodes.math_block) -> NoReturn:
    """Write an equation that has its own lines."""
    self.body.append(f'<div class="equation">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def write_help(app: Any) -> None:
    """Write the help of each command into _generated/."""
    folder = Path(app.srcdir, "_generated")
    folder.mkdir(exist_ok=True)

    def help_of(*command: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            main([*command, "--help"])
        (folder / f"{'_'.join(['briskmlp', *command])}.txt").write_text(text.getvalue(), encoding="utf-8")
        return text.getvalue()

    for command in re.findall(r"^    (\w+)", help_of(), re.MULTILINE):
        help_of(command)


def write_operations(app: Any) -> None:
    """Write the tables of activations and losses into _generated/."""

    def code(*texts: str | None) -> str:
        return ", ".join(f"`{text}`" for text in texts if text)

    gains = {"glorot": "Glorot", "he": "He", "lecun": "LeCun"}
    tables = {
        "activations": [
            ("Name", "Parameters", "Default initialization", "PyTorch", "scikit-learn"),
            *(
                (code(row.name), code(*(f"{key}={value}" for key, value in row.parameters.items())), gains[row.gain],
                 code(row.torch.module or row.torch.functions[0]), code(row.sklearn))
                for row in ACTIVATIONS.values()
            ),
        ],
        "losses": [
            ("Name", "Output activations"),
            *((code(row.name), code(*row.outputs)) for row in LOSSES.values()),
        ],
    }  # fmt: skip
    for name, (head, *rows) in tables.items():
        lines = [f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows)]
        Path(app.srcdir, "_generated", f"{name}.md").write_text("".join(lines), encoding="utf-8")


def setup(app: Any) -> None:
    """Register the math renderer, the help texts and the tables with Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline_math, None), block_renderers=(math_block, None))
    app.connect("builder-inited", write_help)
    app.connect("builder-inited", write_operations)
