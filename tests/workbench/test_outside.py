"""``--import``: what is registered from outside is known in kernels, in workers and to every command."""

from __future__ import annotations

import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from gan_lib.classifiers import make_classifier, save_classifier
from gan_lib.cli import app
from gan_lib.core.artifacts import code_version
from gan_lib.explainers import METHODS
from gan_lib.workbench import outside
from gan_lib.workbench.driver import _key
from gan_lib.workbench.outside import IMPORT, code_of, import_outside

MINE = """
import torch

from gan_lib.core.masking import FILLS
from gan_lib.data import DATA_SETS, ImageData
from gan_lib.explainers import METHODS, Explainer, Method
from gan_lib.gan.conditions import CONDITIONS, ConditionMaker
from gan_lib.gan.generators import GENERATORS, Generator, GeneratorSizes
from gan_lib.gan.generators.layers import conv3x3
from gan_lib.metrics import MEASURES, Measure
from gan_lib.workbench import EXPERIMENTS


class Brightness(Explainer):
    def maps(self, images, target):
        return images.mean(1, keepdim=True)


METHODS.register("outside_brightness", Method(Brightness))
MEASURES.register("mean_map", Measure(lambda maps: maps.mean((1, 2, 3)), "mean"))
EXPERIMENTS.register("outside_brightness", lambda subject, seed: Brightness(subject.cnn))


@FILLS.register("blank")
def blank(images):
    return torch.ones_like(images)


@DATA_SETS.register("noise")
def noise(size, seed, train=20, test=10):
    draw = torch.Generator().manual_seed(seed)
    parts = [(torch.rand(count, size, size, generator=draw), torch.arange(count) % 2) for count in (train, test)]
    return ImageData.from_arrays(*parts, ["even", "odd"])


@CONDITIONS.register("first_cams")
class FirstGradCAMs(ConditionMaker):
    def conditions(self, images, maps, explained):
        return maps[:, : self.count]


@GENERATORS.register("adding")
class AddingGenerator(Generator):
    shared = True

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__(sizes)
        self.mix = conv3x3(self.sizes.condition_channels, self.sizes.width)

    def body(self, features, conditions):
        return features + self.mix(conditions)
"""
BODY = """
import pandas as pd
from gan_lib.explainers import make_explainer
from gan_lib.workbench import Workbench

bench = Workbench("01_mine", profile, changes)
subject = bench.subject()
sample = subject.draw(4)
own = make_explainer(bench.recipe.judge.methods[0], subject.cnn)
area = own.attribute(sample.images).mean().item()
table = pd.DataFrame({"data": [subject.data.name], "area": [area], "expected": [sample.images.mean().item()]})
bench.figures.save_table(table, "own", "A method of one's own")
"""
SWEEP = """
title: Mine
profile: tiny
changes: {machine.workers: 2}
settings:
  - {method: usual}
  - {method: own generator, gan.variants: [adding], gan.conditions: first_cams}
  - {method: outside_brightness, experiment: outside_brightness}
"""


@pytest.fixture(scope="module")
def mine(places):
    path = places.data.parent / "mine.py"
    path.write_text(MINE)
    return path


def command(places, *arguments):
    """The command line in a process of its own, as a user runs it, from elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name != IMPORT}
    own = [sys.executable, "-m", "gan_lib", *map(str, arguments)]
    own += ["--root", str(places.data.parent)]
    done = subprocess.run(
        own, env=environment, cwd=places.data.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_kernel_knows_a_method_and_a_data_set(places, mine):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = nbformat.v4.new_code_cell(
        'profile = "tiny"\nchanges = {}', metadata={"tags": ["parameters"]}
    )
    notebook.cells = [parameters, nbformat.v4.new_code_cell(BODY)]
    nbformat.write(notebook, places.notebooks / "01_mine.ipynb")
    changes = [
        "--set",
        "judge.methods=[outside_brightness]",
        "--set",
        "data.name=noise",
        "--set",
        "judge.fills=[blank]",
    ]
    given = ["run", "--profile", "tiny", "--import", "mine.py", *changes]
    assert "01_mine: 1 figures and tables" in command(places, *given)
    (row,) = pd.read_csv(places.figures / "tiny/01_mine/own.csv").to_dict("records")
    assert row["data"] == "arrays"
    assert row["area"] == pytest.approx(row["expected"], abs=1e-6)


def test_workers_know_a_generator_its_conditions_and_a_measure(places, mine):
    path = places.data.parent / "own_sweep.yaml"
    path.write_text(SWEEP)
    command(places, "sweep", path, "--import", mine)
    results = pd.read_csv(places.figures / "own_sweep/results.csv", keep_default_na=False)
    assert list(dict.fromkeys(results["method"])) == ["usual", "own generator", "outside_brightness"]
    means = results.set_index(["method", "measure"])["mean"]
    for method in ("usual", "own generator", "outside_brightness"):
        assert means[method, "mean_map"] == pytest.approx(means[method, "area"])


@pytest.fixture
def apart(monkeypatch):
    """Modules and environment are as they were afterwards."""
    monkeypatch.setenv(IMPORT, "")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_explain_knows_a_method(tmp_path, monkeypatch, apart):
    monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))
    save_classifier(make_classifier("slim_vgg", ["a", "b"]), tmp_path / "data" / "pretrained" / "slim_vgg")
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "red.png")
    (tmp_path / "own_method.py").write_text(MINE[: MINE.index("MEASURES.register")])
    given = ["explain", tmp_path / "red.png", "--method", "outside_brightness", "--root", tmp_path]
    given += ["--import", tmp_path / "own_method.py", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, list(map(str, given)))
    assert done.exit_code == 0, done.output
    areas = pd.read_csv(tmp_path / "out/explanations.csv").set_index("method")["area"]
    assert areas["outside_brightness"] == pytest.approx(1 / 3, abs=1e-3)
    assert (tmp_path / "out" / "outside_brightness" / "red.png").is_file()


def test_a_notebook_runs_again_when_what_it_imports_has_changed(tmp_path, monkeypatch, apart):
    notebook, module = tmp_path / "01_own.ipynb", tmp_path / "own_value.py"
    nbformat.write(nbformat.v4.new_notebook(), notebook)
    plain = _key(notebook, {})
    keys = set()
    for value in (1, 2):
        module.write_text(f"VALUE = {value}\n")
        import_outside([str(module)])
        code_version.cache_clear()
        keys.add(_key(notebook, {}))
    assert len(keys | {plain}) == 3


def test_modules_by_file_and_by_name(tmp_path, monkeypatch, apart):
    (tmp_path / "own_part.py").write_text("VALUE = 3\n\nclass Thing: ...\n")
    (tmp_path / "own_name.py").write_text("VALUE = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    part, name = import_outside(["own_part.py", "own_name"])
    assert (part.VALUE, name.VALUE) == (3, 4)
    assert os.environ[IMPORT] == os.pathsep.join([str(tmp_path / "own_part.py"), "own_name"])
    assert import_outside() == [part, name], "as a process that this one starts does"
    assert import_outside(["own_name"]) == [part, name], "each once"
    assert code_of(outside.code_of) == {}, "the library's own"
    assert code_of(part.Thing)["code"] in outside.outside_code()
    assert len(set(outside.outside_code())) == 2


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("not_there.py", FileNotFoundError, r"there is no .*not_there\.py"),
        ("not_there", FileNotFoundError, "there is no module 'not_there'"),
        ("json.decoders", FileNotFoundError, r"there is no module 'json\.decoders'"),
        ("json.py", ValueError, "there is another module 'json'"),
        ("needy.py", ModuleNotFoundError, "nothing_like_it"),
        ("needy", ModuleNotFoundError, "nothing_like_it"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path, monkeypatch, apart, name, kind, message):
    for file in ("json.py", "needy.py"):
        (tmp_path / file).write_text("import nothing_like_it\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(kind, match=message):
        import_outside([name])
    assert os.environ[IMPORT] == ""
    assert "needy" not in sys.modules


def test_what_comes_from_outside_may_use_the_front_door(tmp_path):
    (tmp_path / "front.py").write_text("import gan_lib\nused = gan_lib.read_images, gan_lib.load_cnn\n")
    code = "import gan_lib; gan_lib.load_cnn; import sys; assert 'front' in sys.modules"
    environment = os.environ | {IMPORT: str(tmp_path / "front.py")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
