"""A wheel holds all of the library: notebooks, profiles and shipped networks as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from gan_lib.workbench.init import init_workbench, shipped_files

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("gan_lib", "notebooks", "data/pretrained", "data/README.md", "pyproject.toml", "setup.py")
BUILT_FROM += (
    "figures/ablations",
    "figures/contrastive_cifar10",
    "figures/contrastive_photographs",
    "figures/counts",
    "figures/generalisation",
    "figures/prediction_test",
    "figures/universal",
    "figures/universal_photographs",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, without the network: a build in place leaves its folders behind."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in BUILT_FROM:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    (source / "notebooks/.ipynb_checkpoints").mkdir()
    (source / "notebooks/.ipynb_checkpoints/mine.ipynb").write_text("{}")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        scripts = opened.read(next(own for own in names if own.endswith("entry_points.txt"))).decode()
        about = next(own for own in names if own.endswith("METADATA"))
        told = message_from_string(opened.read(about).decode())
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gan_lib").rglob("*.py")}
    templates = {f"gan_lib/reporting/templates/report.{kind}" for kind in ("html", "css")}
    assert code | templates | {"gan_lib/__init__.pyi", "gan_lib/py.typed"} <= names
    held = {name.removeprefix("gan_lib/_workbench/") for name in names if "/_workbench/" in name}
    assert held == set(shipped_files())
    assert {name.partition("/")[0] for name in names} == {"gan_lib", about.partition("/")[0]}, "nothing else"
    assert "gan-lib = gan_lib.__main__:main" in scripts
    assert told["Name"] == "gan_lib"
    assert wheel.stat().st_size < 20e6


def test_a_workbench_from_it_is_that_of_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    made, own = tmp_path / "from_wheel", init_workbench(tmp_path / "from_checkout")
    code = (
        "import sys, gan_lib, pathlib; from gan_lib import api; from gan_lib.workbench.init import *;"
        "init_workbench(pathlib.Path(sys.argv[1])); print(gan_lib.__file__, api.shipped(), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-c", code, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package = tmp_path / "installed/gan_lib"
    where = [str(package / "__init__.py"), str(package / "_workbench/data/pretrained")]
    assert done.stdout.splitlines() == where
    files = {path.relative_to(own): path.read_bytes() for path in own.rglob("*") if path.is_file()}
    assert files == {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert (made / "figures").is_dir()
