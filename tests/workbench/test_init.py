"""A new workbench in a folder of one's own."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from gan_lib import api
from gan_lib.cli import app
from gan_lib.workbench import Places, Profile
from gan_lib.workbench import init as initialised
from gan_lib.workbench import places as library
from gan_lib.workbench.driver import find_notebooks
from gan_lib.workbench.init import README, init_workbench, shipped_files
from gan_lib.workbench.results import BEGIN, END, load_sheets


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_workbench_holds_all_that_runs(tmp_path):
    made = init_workbench(tmp_path / "deep/work")
    assert files_below(made) == {*shipped_files(), "README.md"}
    swept = sorted(path.stem for path in (made / "notebooks/sweeps").glob("*.yaml"))
    tables = {path.name for path in (made / "figures").iterdir()}
    assert tables == {*swept}, "whose tables studies read"
    assert all((made / "figures" / name / "results.csv").is_file() for name in tables)
    places = Places.of(made)
    assert len(find_notebooks(places.notebooks)) == 16
    assert Profile.load("smoke", places.profiles).recipe.seeds == (0, 1)
    assert (places.pretrained / "slim_vgg/classifier.safetensors").stat().st_size == 496264
    assert load_sheets(places.notebooks / "results.yaml")
    assert {"data/README.md", "notebooks/pages/user_study.ipynb", "notebooks/studies/ablations.ipynb"} <= set(
        shipped_files()
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["work"], "nothing is left beside it"
    lines = README.splitlines()
    assert lines.count(BEGIN) == lines.count(END) == 1, "where gan-lib results writes"


def test_hidden_files_stay_where_they_are(tmp_path, monkeypatch):
    for name in ("notebooks/profiles/cpu.yaml", "notebooks/.ipynb_checkpoints/a.ipynb", "data/pretrained/.x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setattr(initialised, "comes_with", lambda: tmp_path)
    assert list(shipped_files()) == ["notebooks/profiles/cpu.yaml"]
    (tmp_path / "notebooks/profiles/cpu.yaml").unlink()
    (tmp_path / "notebooks/profiles").rmdir()
    with pytest.raises(FileNotFoundError, match="holds no notebooks"):
        shipped_files()


@pytest.mark.parametrize("name", ["full", "full/file", "full/file/below"])
def test_what_is_there_already_is_not_touched(tmp_path, name):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    done = CliRunner().invoke(app, ["init", str(tmp_path / name)])
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
    assert files_below(tmp_path) == {"full/file"}
    assert (tmp_path / "full/file").read_text() == "mine"


def test_an_empty_folder_will_do_and_so_will_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert files_below(init_workbench(tmp_path / "empty")) >= set(shipped_files())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = os.stat(".").st_ino
    done = CliRunner().invoke(app, ["init", "."])
    assert done.exit_code == 0, done.output
    assert os.stat(tmp_path / "here").st_ino == inode, "a shell that stands there still does"
    assert (tmp_path / "here/notebooks/profiles/cpu.yaml").is_file()


@pytest.mark.parametrize("broken", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_nothing(tmp_path, monkeypatch, broken):
    copied, copy = [], initialised.shutil.copyfile

    def fails(source, target):
        copied.append(target)
        if len(copied) == 5:
            raise broken
        return copy(source, target)

    monkeypatch.setattr(initialised.shutil, "copyfile", fails)
    expected = (
        pytest.raises(ValueError, match="cannot be written: No space")
        if isinstance(broken, OSError)
        else pytest.raises(KeyboardInterrupt)
    )
    with expected:
        init_workbench(tmp_path / "work")
    assert len(copied) == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", [False, True])
def test_it_appears_in_one_move(tmp_path, monkeypatch, broken):
    moved, move = [], os.replace

    def replace(source, target):
        moved.append(target)
        if broken:
            raise PermissionError(13, "Permission denied")
        move(source, target)

    monkeypatch.setattr(initialised.os, "replace", replace)
    if broken:
        with pytest.raises(ValueError, match="work cannot be written: Permission denied"):
            init_workbench(tmp_path / "work")
    else:
        init_workbench(tmp_path / "work")
    assert moved == [tmp_path / "work"]
    assert [path.name for path in tmp_path.iterdir()] == ([] if broken else ["work"])


def test_shipped_networks_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert api.shipped() == library.comes_with() / "data/pretrained"
    assert (api.shipped() / "slim_vgg/classifier.json").is_file()
    package = tmp_path / "site/gan_lib"
    (package / "_workbench/data/pretrained").mkdir(parents=True)
    monkeypatch.setattr(library, "LIBRARY", package)
    assert library.comes_with() == package / "_workbench", "an installed library holds them in itself"
    assert api.shipped() == package / "_workbench/data/pretrained"
    init_like = tmp_path / "work"
    (init_like / "notebooks/profiles").mkdir(parents=True)
    (init_like / "data/pretrained").mkdir(parents=True)
    monkeypatch.chdir(init_like)
    assert api.shipped() == init_like / "data/pretrained", "the project's own come first"


def test_python_path_of_what_is_started_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["given", "", str(tmp_path / "mine")]))
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "lib/gan_lib")
    told = library.python_path([tmp_path / "mine"]).split(os.pathsep)
    assert told == [str(tmp_path / name) for name in ("mine", "given", "lib")]
    monkeypatch.setattr(library.sysconfig, "get_path", lambda _: str(tmp_path / "lib"))
    assert library.python_path([]).split(os.pathsep) == [str(tmp_path / name) for name in ("given", "mine")]
