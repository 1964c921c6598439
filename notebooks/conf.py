"""The site: this folder as a book. ``make docs`` builds it into ``data/site``, without the network."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path

import jupyter_server_mathjax
import pandas as pd
import typer
from typer.testing import CliRunner

import gan_lib
from gan_lib.cli import app
from gan_lib.workbench import Places
from gan_lib.workbench.book import as_sphinx_reads, beside_tables, page
from gan_lib.workbench.driver import find_notebooks, notebook_name
from gan_lib.workbench.results import load_sheets, results_page

HERE = Path(__file__).resolve().parent
PLACES = Places.of(HERE.parent)
WALKTHROUGH = {notebook_name(path, HERE) for path in find_notebooks(HERE)}

GENERATED = ["guide/beside", "guide/reference/commands", "guide/reference/front_door", "guide/results"]

project, author, version = "gan_lib", "gan_lib developers", gan_lib.__version__
copyright = "gan_lib developers"
html_title, language = "gan_lib", "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "myst_nb",
]
exclude_patterns = ["pages", ".ipynb_checkpoints", "**/.ipynb_checkpoints"]
nb_execution_mode = "off"  # what was executed lies in data/runs
nb_output_stderr = "remove"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False  # which is for later versions of MathJax
highlight_language = "default"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 60
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "gan_lib"},
    "header_links_before_dropdown": 5,
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
ALONE = ("own_cnn", "results", "beside", "migration", "limits", "scaling")
html_sidebars = {name: [] for name in ("index", *(f"guide/{own}" for own in ALONE))}  # none below them

# Formulas are set by MathJax from this site's own folder: nothing is asked of another server.
mathjax_path = "mathjax/MathJax.js"
mathjax2_config = {
    "config": ["TeX-AMS-MML_HTMLorMML-full.js"],
    "jax": ["input/TeX", "output/HTML-CSS"],
    "extensions": ["tex2jax.js"],
    "tex2jax": {"processClass": "tex2jax_process|math|output_area"},
    "menuSettings": {"assistiveMML": False, "collapsible": False, "explorer": False},
    "HTML-CSS": {
        "availableFonts": [],
        "preferredFont": None,
        "webFont": "STIX-Web",
        "imageFont": None,
        "scale": 88,
        "linebreaks": {"automatic": True},
    },
    "messageStyle": "none",
}
MATHJAX = Path(jupyter_server_mathjax.__file__).parent / "static"
UNUSED = shutil.ignore_patterns("localization", "SVG")


def read(sphinx, docname, source):
    """Notebooks as they were executed, and the tables where a page asks for them."""
    if docname in WALKTHROUGH:
        source[0] = page(source[0], docname, PLACES)
        sphinx.env.note_dependency(str(PLACES.data / "runs" / "cpu" / f"{docname}.json"))
    if docname == "guide/reference/front_door":
        source[0] += f"\n{names_at_the_top()}\n"
    if docname == "guide/reference/commands":
        source[0] += commands()
    if docname == "guide/beside":
        made = beside_tables(pd.read_csv(PLACES.figures / "beside.csv"))
        source[0] = source[0].replace("<!-- tables -->", made)
    if docname == "guide/results":
        made = results_page(load_sheets(HERE / "results.yaml"), PLACES.figures)
        source[0] += made.partition("\n")[2]


def rooms():
    """Modules that the reference describes."""
    pages = sorted((HERE / "guide/reference").glob("*.md"))
    found = [name for path in pages for name in re.findall(r"automodule:: (\S+)", path.read_text())]
    return [importlib.import_module(name) for name in found]


def names_at_the_top():
    """A table of all names of ``gan_lib`` that the front door's page does not describe itself."""
    described, lines = (
        (HERE / "guide/reference/front_door.md").read_text(),
        ["| name | what |", "| --- | --- |"],
    )
    for name in sorted(gan_lib.__all__, key=str.lower):
        if f"autofunction:: {name}\n" in described:
            continue
        thing = getattr(gan_lib, name)
        room = next(own for own in rooms() if getattr(own, name, None) is thing)
        is_code = inspect.isclass(thing) or inspect.isfunction(thing)
        told = (
            (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ") if is_code else "a registry"
        )
        told = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", told).replace("``", "`")
        lines.append(f"| {{py:obj}}`{name} <{room.__name__}.{name}>` | {told} |")
    return "\n".join(lines)


def commands():
    """What every command says of itself."""
    told = []
    for name in sorted(typer.main.get_command(app).commands):
        text = (
            CliRunner()
            .invoke(app, [name, "--help"], env={"COLUMNS": "100"}, prog_name="gan-lib")
            .output.strip()
        )
        told.append(f"\n## `gan-lib {name}`\n\n```text\n{text}\n```\n")
    return "".join(told)


def add_mathjax(sphinx, error):
    """Put MathJax beside what the theme ships."""
    if error is None and sphinx.builder.format == "html":
        shutil.copytree(MATHJAX, Path(sphinx.outdir) / "_static/mathjax", ignore=UNUSED, dirs_exist_ok=True)


def setup(sphinx):
    sphinx.connect("source-read", read)
    sphinx.connect("env-get-outdated", lambda *_: GENERATED)  # whatever their own files' dates
    sphinx.connect("build-finished", add_mathjax)
    mark = lambda sphinx, what, name, thing, options, lines: lines.__setitem__(  # noqa: E731
        slice(None), as_sphinx_reads(lines)
    )
    sphinx.connect("autodoc-process-docstring", mark, priority=400)  # before napoleon reads its sections
