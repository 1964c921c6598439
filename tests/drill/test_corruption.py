"""Every kind of file, damaged in every way: nothing that is not what was written is believed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from drill.damages import DAMAGES, contents, copied

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.checksums import DamagedError
from gan_lib.core.storage import load_checkpoint, load_tensors, save_checkpoint, save_tensors, write_json
from gan_lib.explainers import GeneratorExplainer
from gan_lib.figures.save import check_manifest, merge_manifest, read_manifest
from gan_lib.study.trials import AnswerFile, Trial, answered
from gan_lib.workbench import driver
from gan_lib.workbench.explained import COLUMNS, ExplanationFolder
from gan_lib.workbench.kept import KeptExplainers

ROOT = Path(__file__).parents[2]
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


# -- artifacts: made again ----------------------------------------------------------------------------

FILES = ("weights.safetensors", "table.csv", "about.json", "made_from.json", "checksums.json")


def make(folder):
    save_tensors(folder / "weights.safetensors", {"w": torch.arange(100.0)})
    pd.DataFrame({"a": [1.5, 2.5]}).to_csv(folder / "table.csv", index=False)
    write_json(folder / "about.json", {"name": "x"})


@each_damage
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_artifact_is_made_again(tmp_path, name, damage):
    store = ArtifactStore(tmp_path)
    folder = store.get("kind", "gan_lib.core.storage", {"a": 1}, make)
    before = contents(tmp_path)
    damage(folder / name)
    with pytest.warns(UserWarning, match="made again"):
        store.get("kind", "gan_lib.core.storage", {"a": 1}, make)
    assert contents(tmp_path) == before


def test_an_artifact_in_the_place_of_another_is_made_again(tmp_path):
    store = ArtifactStore(tmp_path)
    one, two = (store.get("kind", "gan_lib.core.storage", {"a": own}, make) for own in (1, 2))
    before = contents(tmp_path)
    copied(one, two)
    with pytest.warns(UserWarning, match="holds another artifact"):
        assert store.get("kind", "gan_lib.core.storage", {"a": 2}, make) == two
    assert contents(tmp_path) == before
    shutil.rmtree(two)
    two.symlink_to(one)
    with pytest.warns(UserWarning, match="holds another artifact"):
        store.get("kind", "gan_lib.core.storage", {"a": 2}, make)
    assert contents(tmp_path) == before
    assert not two.is_symlink()


@pytest.mark.parametrize("place", ["file", "link", "folder in it", "link in it"])
def test_what_stands_in_the_way_of_an_artifact_goes(tmp_path, place):
    store = ArtifactStore(tmp_path / "store")
    partial = Path(f"{store.address('kind', 'gan_lib.core.storage', {})}.partial")
    partial.parent.mkdir(parents=True)
    if place == "file":
        partial.write_text("x")
    elif place == "link":
        partial.symlink_to(tmp_path / "nothing")
    else:
        partial.mkdir()
        own = partial / "checkpoint.safetensors"
        own.mkdir() if place == "folder in it" else own.symlink_to(tmp_path / "nothing")
    folder = store.get("kind", "gan_lib.core.storage", {}, make)
    assert set(contents(folder)) == set(FILES)


@each_damage
def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path, damage):
    state = {"step": 3, "model": {"w": torch.arange(50.0)}, "log": [{"loss": 0.25}]}
    save_checkpoint(tmp_path / "checkpoint.safetensors", state)
    assert load_checkpoint(tmp_path / "checkpoint.safetensors")["log"] == [{"loss": 0.25}]
    damage(tmp_path / "checkpoint.safetensors")
    with pytest.raises(DamagedError, match=r"checkpoint\.safetensors is damaged"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


# -- shipped files: refused by name -------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return copied(ROOT / "data/pretrained/slim_vgg", tmp_path_factory.mktemp("shipped") / "slim_vgg")


SHIPPED = (
    *("classifier.safetensors", "classifier.json", "checksums.json"),
    *(
        f"lsft/{name}"
        for name in ("generator.safetensors", "generator.json", "explainer.json", "checksums.json")
    ),
)


@each_damage
@pytest.mark.parametrize("name", SHIPPED)
def test_a_damaged_shipped_file_is_refused_by_name(shipped, tmp_path, name, damage):
    home = copied(shipped, tmp_path / "slim_vgg")
    damage(home / name)
    with pytest.raises((ValueError, OSError), match=Path(name).name.replace(".", r"\.")):
        GeneratorExplainer.from_pretrained(home / "lsft")


def test_without_damage_it_is_read(shipped):
    assert GeneratorExplainer.from_pretrained(shipped / "lsft").kind == "supervised"
    assert load_tensors(shipped / "classifier.safetensors")


@each_damage
def test_a_damaged_kept_explainer_is_refused_with_the_way_out(shipped, tmp_path, damage):
    kept = KeptExplainers(tmp_path)
    kept.save("lsft", {0: GeneratorExplainer.from_pretrained(shipped / "lsft")}, {0: {"data": "d"}})
    assert [seed for seed, _ in kept.folders("lsft", "d")] == [0]
    damage(tmp_path / "lsft/0/explainer.json")
    with pytest.raises(DamagedError, match=r"gan-lib run --force"):
        kept.folders("lsft", "d")


# -- what a run notes ---------------------------------------------------------------------------------


@each_damage
def test_a_damaged_note_of_the_last_run_counts_for_none(tmp_path, damage):
    status = tmp_path / "01.json"
    figure = tmp_path / "figures/p/a.csv"
    figure.parent.mkdir(parents=True)
    figure.write_text("1")
    sha = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    merge_manifest(tmp_path / "figures", {"p/a.csv": {"run": "p", "caption": "", "sha256": sha}}, {"p": {}})
    about = {"notebook": "01", "state": "completed", "seconds": 1.0, "files": ["p/a.csv"], "key": "k" * 80}
    write_json(status, about)
    assert driver._unchanged(status, "k" * 80, tmp_path / "figures") == ("p/a.csv",)
    damage(status)
    found = driver._unchanged(status, "k" * 80, tmp_path / "figures")
    assert found is None or json.loads(status.read_text())["key"] == "k" * 80, "a bit of what is not read"


@each_damage
def test_a_damaged_manifest_is_told_with_the_way_out(tmp_path, damage):
    sha = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    (tmp_path / "a.csv").write_text("1")
    merge_manifest(tmp_path, {"a.csv": {"run": "p", "caption": "A", "sha256": sha}}, {"p": {}})
    assert check_manifest(tmp_path) == []
    damage(tmp_path / "manifest.json")
    try:
        found = check_manifest(tmp_path)
    except ValueError as error:
        found = [str(error)]
    told = "changed since it was recorded|missing|manifest.json.*git checkout.*--force"
    assert re.search(told, "".join(found)), "it cannot be read, or a figure is another than it says"


MERGED = '<<<<<<< ours\n{"files": {}, "runs": {}}\n=======\n{"files": {}, "runs": {}}\n>>>>>>> theirs\n'


@pytest.mark.parametrize(
    "text", ["[]", '"x"', "{}", '{"files": [], "runs": {}}', MERGED, '{"files": {"a": 1}, "runs": {}}']
)
def test_what_is_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="git checkout"):
        read_manifest(tmp_path)


# -- a folder of explanations -------------------------------------------------------------------------


@each_damage
@pytest.mark.parametrize("name", ["explain.json", "explanations.csv"])
def test_a_damaged_folder_of_explanations_is_refused_or_overwritten(tmp_path, name, damage):
    out = tmp_path / "out"
    folder = ExplanationFolder(out, {"cnn": "a"}, {"edges": ""})
    folder.begin()
    for number in range(3):
        folder.append(
            pd.DataFrame([dict.fromkeys(COLUMNS, "x") | {"image": f"={number}", "name": str(number)}])
        )
    again = ExplanationFolder(out, {"cnn": "a"}, {"edges": ""})
    assert again.rows()["image"].tolist() == ["=0", "=1", "=2"], "text stays what it is"
    assert b"'=0" in (out / "explanations.csv").read_bytes(), "and is none for a spreadsheet"
    damage(out / name)
    with pytest.raises((ValueError, OSError), match=r"--overwrite") as told:
        ExplanationFolder(out, {"cnn": "a"}, {"edges": ""})
    assert str(out) in str(told.value)
    made = ExplanationFolder(out, {"cnn": "a"}, {"edges": ""}, overwrite=True)
    made.begin()
    made.append(pd.DataFrame([dict.fromkeys(COLUMNS, "y")]))
    assert ExplanationFolder(out, {"cnn": "a"}, {"edges": ""}).rows()["image"].tolist() == ["y"]


# -- answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(4, 119, 6))
@pytest.mark.parametrize("bit", [0x01, 0x40])
def test_a_changed_answer_is_put_aside(tmp_path, place, bit):
    file = AnswerFile(tmp_path / "answers.csv")
    for number in range(3):
        file.append(answered(Trial("preference", 1, 2, "=lsft", "gsft"), "p", number, "A", 1.0))
    assert file.read()["left"].tolist() == ["=lsft"] * 3
    lines = file.path.read_bytes().split(b"\n")
    changed = bytearray(lines[2])
    changed[place % len(changed)] ^= bit
    file.path.write_bytes(b"\n".join([*lines[:2], bytes(changed), lines[3]]))
    with pytest.warns(UserWarning, match=r"damaged lines of .*answers\.csv are left out; they are in"):
        assert file.read()["number"].tolist() == [0, 2]
    assert bytes(changed) in (tmp_path / "answers.csv.damaged").read_bytes()


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_answer_is_put_aside_wherever_it_is_cut(tmp_path, cut):
    file = AnswerFile(tmp_path / "answers.csv")
    for number in range(2):
        file.append(answered(Trial("preference", 1, 2, "lsft", "gsft"), "p", number, "A", 1.0))
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-cut])
    with pytest.warns(UserWarning, match="1 damaged lines"):
        assert file.read()["number"].tolist() == [0]
    file.append(answered(Trial("preference", 1, 2, "lsft", "gsft"), "p", 5, "A", 1.0))
    with pytest.warns(UserWarning, match="1 damaged lines"):
        assert file.read()["number"].tolist() == [0, 5]


def test_answers_of_before_had_no_hash_but_a_whole_time(tmp_path):
    file = AnswerFile(tmp_path / "answers.csv")
    row = answered(Trial("preference", 1, 2, "lsft", "gsft"), "p", 0, "A", 1.0)
    whole = ",".join(map(str, row.values()))
    file.path.write_text(f"{','.join(row)}\n{whole}\n{whole[:-3]}")
    with pytest.warns(UserWarning, match="1 damaged lines"):
        assert len(file.read()) == 1
