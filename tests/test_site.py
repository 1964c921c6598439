"""The site's pages: every snippet runs, every link leads somewhere, every public name is described.

The site itself is built by ``make docs``, with warnings as errors.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

import gan_lib
from gan_lib.cli import app

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "notebooks"
PAGES = [BOOK / "index.md", *sorted((BOOK / "guide").rglob("*.md"))]
TEXTS = [*PAGES, *sorted(BOOK.glob("0*.ipynb")), *sorted(BOOK.glob("studies/*.ipynb"))]
TEXTS += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "figures/RESULTS.md")]
TEXTS += [ROOT / name for name in ("gan_lib/README.md", "data/README.md")]
FENCED = re.compile(
    r"^```(?:\{code-block\} )?(\w+)\n((?::[\w-]+:[^\n]*\n)*)(.*?)^```", re.MULTILINE | re.DOTALL
)
DIRECTIVE = re.compile(r"^```\{literalinclude\} (\S+)\n((?::[\w-]+:.*\n)*)```", re.MULTILINE)
OPTION = re.compile(r"^:([\w-]+): *(.*)$", re.MULTILINE)
README = (ROOT / "README.md").read_text()
INSTALLS = {"python3 -m venv .venv", ".venv/bin/pip install .", "pip install ."}
# Run by tests/test_own_cnn.py, in a folder that has what they need.
OWN_CNN = README.partition("## Explain your own CNN")[2].partition("\n## ")[0]
RUN_THERE = set(re.findall(r"`(gan-lib run [^`]*)`", OWN_CNN))


def markdown(path: Path) -> str:
    """The text of a page, or of a notebook's prose."""
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def snippets(path: Path) -> list[tuple[str, dict[str, str], str]]:
    """Language, options and text of every snippet of a page that is meant to run."""
    found = [
        (kind, dict(OPTION.findall(told)), text) for kind, told, text in FENCED.findall(path.read_text())
    ]
    return [own for own in found if own[1].get("class") != "not-run"]


# -- snippets ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader works: a photograph, and some more; what a page registers or imports is undone."""
    drawn = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", "photos/one.png"):
        Image.fromarray(drawn.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("GAN_LIB_IMPORT", "")
    for registry in (gan_lib.METHODS, gan_lib.MEASURES, gan_lib.DATA_SETS):
        shipped = {  # without what other tests have registered
            key: own
            for key, own in registry._things.items()
            if getattr(own[1], "__module__", "gan_lib").startswith("gan_lib")
        }
        monkeypatch.setattr(registry, "_things", shipped)
    for name, module in list(sys.modules.items()):  # another test's `nets.py` is not this page's
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path.parent)):
            monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run_in_shell(line: str) -> None:
    """A line as a reader would type it; set-up is not done again, targets of make are planned only."""
    if line in INSTALLS | RUN_THERE:
        return
    program, *arguments = shlex.split(line, comments=True)
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
        return
    assert program.removeprefix(".venv/bin/") == "gan-lib", line
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{line}\n{done.output}"


def run(kind: str, told: dict[str, str], text: str, names: dict[str, object]) -> None:
    if "caption" in told:
        Path(told["caption"]).write_text(text)
        importlib.invalidate_caches()
    elif kind == "python":
        exec(text, names)
    elif kind == "yaml":
        assert yaml.safe_load(text)
    else:
        assert kind == "shell"
        for line in filter(None, text.splitlines()):
            run_in_shell(line)


WITH_SNIPPETS = [path for path in PAGES if snippets(path) and path.stem != "migration"]


@pytest.mark.parametrize("path", WITH_SNIPPETS, ids=lambda path: path.stem)
def test_every_snippet_of_a_page_runs(path, folder):
    names: dict[str, object] = {"__name__": "page"}
    if path.stem == "own_cnn":  # which makes photographs of its own
        shutil.rmtree("photos")
    for kind, told, text in snippets(path):
        run(kind, told, text, names)
    if path.stem == "sweep":
        table = pd.read_csv("work/figures/widths/results.csv")
        assert set(table["method"]) == {"Grad-CAM", "LSFT", "width 8"}
    if path.stem == "own_cnn":
        assert names["found"].titles == ["cat"] * 10 + ["dog"] * 10


# What differs: the size at which a map is scaled to [0, 1], before it is enlarged or after.
CLOSE = {"captum": 1e-5, "pytorch_grad_cam": 0.02, "explainable_cnn": 1e-5}


def as_maps(made: object) -> torch.Tensor:
    """Maps of any library as (B, 1, H, W)."""
    maps = torch.as_tensor(made).detach()
    return maps.reshape(-1, 1, *maps.shape[-2:])


def test_the_pairs_of_the_migration_page_agree(folder, monkeypatch):
    monkeypatch.setattr(np, "float", float, raising=False)  # a name that explainable-cnn needs
    names: dict[str, object] = {"__name__": "page"}
    pairs, library = 0, ""
    for kind, _, text in snippets(BOOK / "guide/migration.md"):
        lines = [
            line for line in text.splitlines() if line.strip() and not line.startswith(("from ", "import "))
        ]
        library = next((name for name in CLOSE if f"from {name}" in text), library)
        run(kind, {}, text, names)
        if "theirs" in text or "ours" in text:
            assert len(lines) <= 5, "five lines at most"
        if "ours" in text:
            theirs, ours = as_maps(names.pop("theirs")), as_maps(names.pop("ours"))
            assert theirs.abs().max() > 0
            assert (theirs - ours).abs().max() <= CLOSE[library], library
            pairs += 1
    assert pairs == 4


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_is_included_is_there_and_tested(path):
    """Lines that a page takes from README, whose snippets have tests of their own."""
    for name, told in DIRECTIVE.findall(path.read_text()):
        source, options = (path.parent / name).resolve(), dict(OPTION.findall(told))
        assert source == ROOT / "README.md"
        first, last = options["start-at"].strip('"'), options["end-at"].strip('"')
        blocks = [text for _, _, text in FENCED.findall(re.sub(r"^```\n", "```text\n", README, flags=re.M))]
        assert any(first in own and last in own.partition(first)[2] for own in (*blocks, README)), options


# -- links ------------------------------------------------------------------------------------------------

LINK = re.compile(r"\]\(<?([^()\s>]*(?:\([^()]*\))?[^()\s>]*)>?\)|^:link: (\S+)$", re.MULTILINE)
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
CODE = re.compile(r"^(```|:::).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Names of a page's headings, as GitHub and MyST make them."""
    prose = re.sub(r"^```.*?^```", "", markdown(path), flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", own).lower() for own in HEADING.findall(prose)]
    return {re.sub(r"[^\w\- ]", "", own).replace(" ", "-") for own in titles}


def broken(path: Path, text: str) -> list[str]:
    """Links of a text that lead nowhere, relative to the page's folder; other sites' are not asked."""
    prose, wrong = re.sub(r"^```(?!\{).*?^```", "", text, flags=re.MULTILINE | re.DOTALL), []
    for target, document in LINK.findall(prose):
        if re.match(r"https?://|mailto:", target):
            continue
        place, _, anchor = unquote(target or f"{document}.md").partition("#")
        there = (path.parent / place).resolve() if place else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(target or document)
    return wrong


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_links_and_anchors_hold(path):
    assert broken(path, markdown(path)) == []


def test_links_that_would_be_found():
    page = BOOK / "index.md"
    good = "[a](guide/limits.md) [b](guide/limits.md#a-map-is-not-a-cause) [c](https://arxiv.org/abs/1)"
    assert broken(page, good) == []
    assert broken(page, "[a](guide/none.md)") == ["guide/none.md"]
    assert broken(page, "[a](guide/limits.md#nothing)") == ["guide/limits.md#nothing"]
    assert broken(page, ":link: guide/none\n") == ["guide/none"]
    assert broken(page, "```python\nx[0](y)\n```\n") == []


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for path in PAGES:
        for tree in TREE.findall(path.read_text()):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            for entry in entries:
                found = [own.resolve() for own in path.parent.glob(f"{entry.removesuffix('*')}*")]
                assert found or "*" in entry, f"{path}: {entry}"
                listed |= set(found)
    missing = {path for path in TEXTS if BOOK in path.parents} - listed - {BOOK / "index.md"}
    assert missing == set()


# -- reference --------------------------------------------------------------------------------------------


def described() -> dict[str, set[str]]:
    """Public names by module, of the modules that the reference describes."""
    text = "\n".join(path.read_text() for path in (BOOK / "guide/reference").glob("*.md"))
    found = {}
    for name in re.findall(r"automodule:: (\S+)", text):
        module = importlib.import_module(name)
        own = getattr(module, "__all__", None) or [
            key
            for key, thing in vars(module).items()
            if not key.startswith("_") and getattr(thing, "__module__", None) == name
        ]
        found[name] = set(own)
    return found


def test_every_room_and_every_name_at_the_top_is_described():
    rooms, told = described(), (BOOK / "guide/reference/front_door.md").read_text()
    for name in gan_lib.__all__:
        thing = getattr(gan_lib, name)
        is_there = any(getattr(importlib.import_module(room), name, None) is thing for room in rooms)
        assert f"autofunction:: {name}\n" in told or is_there, name
    public = {path.parent.name for path in (ROOT / "gan_lib").glob("*/__init__.py")} - {"api", "cli"}
    assert {name.split(".")[1] for name in rooms} == public
    for package in (ROOT / "gan_lib").glob("*/__init__.py"):
        room = f"gan_lib.{package.parent.name}"
        for name in getattr(importlib.import_module(room), "__all__", ()):
            assert room in rooms or package.parent.name in ("api", "cli"), name
    within = {
        f"gan_lib.{room}.{path.stem}"
        for room in ("core", "gan")
        for path in (ROOT / "gan_lib" / room).iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    assert within <= rooms.keys(), "core and gan are described module by module"


def test_what_the_reference_describes_is_documented():
    for room, names in described().items():
        module = importlib.import_module(room)
        for name in names:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                assert inspect.getdoc(thing), f"{room}.{name}"
