"""Processes side by side: work is done once, nothing is lost, and nobody sees anything half done."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
import torch
import typer
from drill.damages import contents
from drill.stage import write_notebook

from gan_lib.cli import cnn as shared
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.storage import load_tensors, save_tensors
from gan_lib.explainers import GeneratorExplainer
from gan_lib.study.trials import AnswerFile, Study, Trial
from gan_lib.workbench import Places
from gan_lib.workbench.driver import run_notebooks
from gan_lib.workbench.kept import KeptExplainers

ROOT = Path(__file__).parents[2]
context = multiprocessing.get_context("fork")


def at_once(function, count, *arguments):
    """Exit codes of so many processes that call a function with their number."""
    crew = [context.Process(target=function, args=(number, *arguments)) for number in range(count)]
    for own in crew:
        own.start()
    for own in crew:
        own.join(120)
    return [own.exitcode for own in crew]


def get_artifact(number, root):
    def make(folder):
        with open(root / "calls", "a") as file:
            file.write(f"{number}\n")
        time.sleep(0.3)
        save_tensors(folder / "w.safetensors", {"w": torch.full((5,), 7.0)})

    folder = ArtifactStore(root / "store").get("kind", "gan_lib.core.storage", {"a": 1}, make)
    assert load_tensors(folder / "w.safetensors")["w"].sum() == 35


def test_an_artifact_is_made_once(tmp_path):
    assert at_once(get_artifact, 6, tmp_path) == [0] * 6
    assert len((tmp_path / "calls").read_text().split()) == 1


def keep_or_read(number, home, shipped):
    kept = KeptExplainers(home)
    own = GeneratorExplainer.from_pretrained(shipped / "lsft")
    for _ in range(6):
        if number < 2:
            kept.save("lsft", {0: own, 1: own}, {seed: {"data": "d", "by": number} for seed in (0, 1)})
            continue
        with kept.locked():
            found = kept.folders("lsft", "d")
            assert [seed for seed, _ in found] in ([], [0, 1])
            by = {GeneratorExplainer.from_pretrained(folder, own.cnn).kind for _, folder in found}
            assert by in (set(), {"supervised"})


def test_kept_explainers_are_the_old_or_the_new_ones(tmp_path):
    assert at_once(keep_or_read, 4, tmp_path, ROOT / "data/pretrained/slim_vgg") == [0] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "lsft"]


def take_part(number, path):
    file = AnswerFile(path)
    trials = [Trial("preference", 1, 2, "lsft", "gsft")] * 8
    study = Study(trials, file, f"{file.next_participant()}-{number}")
    while study.current:
        study.answer("A")


def test_fifty_participants_at_once_lose_no_answer(tmp_path):
    assert at_once(take_part, 50, tmp_path / "answers.csv") == [0] * 50
    table = AnswerFile(tmp_path / "answers.csv").read()
    assert len(table) == 50 * 8
    own = table.groupby("participant")["number"].apply(list)
    assert all(numbers == list(range(8)) for numbers in own)
    assert sorted(int(name.split("-")[0]) for name in own.index) == list(range(50))


def write_into(number, out):
    def told(text):
        with open(out.parent / "told", "a") as file:
            file.write(f"{text}\n")

    shared.warn = told
    with shared.writable(out):
        assert not (out / "inside").exists()
        (out / "inside").touch()
        time.sleep(0.2)
        (out / "inside").unlink()
        (out / str(number)).touch()


def test_one_command_at_a_time_writes_to_a_folder_the_others_wait(tmp_path):
    assert at_once(write_into, 8, tmp_path / "out") == [0] * 8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*"01234567"]
    assert "waiting for another run that writes to" in (tmp_path / "told").read_text()
    with pytest.raises(typer.Exit), shared.writable(tmp_path / "none"):
        raise typer.Exit(1)
    assert not (tmp_path / "none").exists()


BODY = """
import hashlib, json, os, pathlib

with open({counter!r}, "a") as file:
    file.write("{name}\\n")
root = pathlib.Path(os.environ["GAN_LIB_FIGURES"])
(root / "p/{name}").mkdir(parents=True)
(root / "p/{name}/first.csv").write_text("1")
row = {{"run": "p/{name}", "caption": "One", "sha256": hashlib.sha256(b"1").hexdigest()}}
manifest = {{"files": {{"p/{name}/first.csv": row}}, "runs": {{"p/{name}": {{"seed": 0}}}}}}
(root / "manifest.json").write_text(json.dumps(manifest))
"""


def run_all(_, root):
    states = [own.state for own in run_notebooks("p", Places.of(root))]
    assert set(states) <= {"completed", "unchanged"}, states
    assert len(states) == 2


def test_four_runs_at_once_do_the_work_once(tmp_path):
    root = tmp_path / "project"
    (root / "notebooks/profiles").mkdir(parents=True)
    (root / "notebooks/profiles/p.yaml").write_text("seeds: [0]\n")
    counter = tmp_path / "counter"
    for name in ("01_first", "02_second"):
        body = BODY.format(name=name, counter=str(counter))
        write_notebook(root / "notebooks" / f"{name}.ipynb", body)
    assert at_once(run_all, 4, root) == [0] * 4
    assert sorted(counter.read_text().split()) == ["01_first", "02_second"]
    made = contents(root / "figures")
    assert made["p/01_first/first.csv"] == made["p/02_second/first.csv"] == b"1"
    assert not [path for path in root.rglob("*.tmp") if path.is_dir()]
