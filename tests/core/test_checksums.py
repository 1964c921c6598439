"""What is noted about files, and what is found out about those that are no longer what was written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from gan_lib.core import checksums
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.checksums import CHECKSUMS, DamagedError, check_file, check_folder, write_checksums
from gan_lib.core.storage import load_tensors, read_json, save_tensors, write_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    save_tensors(tmp_path / "a.safetensors", {"weights": torch.arange(64.0)})
    write_json(tmp_path / "b.json", {"name": "b"})
    (tmp_path / "below").mkdir()
    (tmp_path / "below/c.csv").write_text("x\n1\n")
    write_checksums(tmp_path)
    return tmp_path


def flip(path, place, bit=0x40):
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(bytes(data))


def test_every_file_is_noted_by_its_sha256(folder):
    noted = json.loads((folder / CHECKSUMS).read_text())
    assert list(noted) == ["a.safetensors", "b.json", "below/c.csv"]
    assert noted["below/c.csv"] == hashlib.sha256(b"x\n1\n").hexdigest()
    check_folder(folder)
    (folder / "b.json").write_text("{}")
    write_checksums(folder, ["b.json"])
    after = json.loads((folder / CHECKSUMS).read_text())
    assert after == noted | {"b.json": hashlib.sha256(b"{}").hexdigest()}, "the others stay noted"


DAMAGES = {
    "one bit": lambda path: flip(path, -1),
    "a low bit": lambda path: flip(path, -4, 0x01),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "empty": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["a.safetensors", "b.json", "below/c.csv", CHECKSUMS])
def test_every_damage_is_found(folder, damage, name):
    check_folder(folder)  # what was found right is not believed for ever
    damage(folder / name)
    with pytest.raises(DamagedError):
        check_folder(folder)


def test_files_swapped_with_each_other_are_found(folder):
    (folder / "b.json").rename(folder / "kept")
    (folder / "below/c.csv").rename(folder / "b.json")
    (folder / "kept").rename(folder / "below/c.csv")
    with pytest.raises(DamagedError, match=r"b\.json is damaged"):
        check_folder(folder)


def test_loading_checks_what_is_noted_and_says_what_to_do(folder):
    assert load_tensors(folder / "a.safetensors")["weights"].sum() == 2016
    assert read_json(folder / "b.json") == {"name": "b"}
    flip(folder / "a.safetensors", -2)
    with pytest.raises(DamagedError, match=r"a\.safetensors is damaged.*git checkout -- .*a\.safetensors"):
        load_tensors(folder / "a.safetensors")
    (folder / "b.json").write_text('{"name": "d"}\n')
    with pytest.raises(DamagedError, match=r"b\.json is damaged"):
        read_json(folder / "b.json")
    (folder / CHECKSUMS).write_text('["b.json"]')
    with pytest.raises(DamagedError, match="holds no checksums"):
        read_json(folder / "b.json")
    (folder / CHECKSUMS).unlink()
    assert read_json(folder / "b.json") == {"name": "d"}, "where nothing is noted nothing is compared"


def test_a_file_is_hashed_once_as_long_as_it_is_the_same(folder, monkeypatch):
    hashed = []
    plain = checksums.sha256
    monkeypatch.setattr(checksums, "sha256", lambda path: hashed.append(path.name) or plain(path))
    path = folder / "b.json"
    for _ in range(3):
        check_file(path)
    assert hashed == ["b.json"]
    os.utime(path, ns=(1, 1))
    check_file(path)
    assert hashed == ["b.json"] * 2


def test_a_json_file_that_is_none_is_named(tmp_path):
    (tmp_path / "index.json").write_text("<<<<<<< ours\n")
    with pytest.raises(json.JSONDecodeError, match=r"index\.json is no JSON"):
        read_json(tmp_path / "index.json")


def stored(store, made):
    def make(folder):
        made.append(folder.name)
        save_tensors(folder / "own.safetensors", {"weights": torch.ones(4)})
        (folder / "checkpoint.safetensors").write_text("")

    return store.get("kind", "gan_lib.core.storage", {"seed": 0}, make)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["own.safetensors", "made_from.json", CHECKSUMS])
def test_a_damaged_artifact_is_told_and_made_again(tmp_path, damage, name):
    store, made = ArtifactStore(tmp_path), []
    folder = stored(store, made)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"own.safetensors", "made_from.json", CHECKSUMS}
    assert stored(store, made) == folder
    assert len(made) == 1
    damage(folder / name)
    with pytest.warns(UserWarning, match=f"made again: .*{name}"):
        assert stored(store, made) == folder
    assert len(made) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_stands_in_place_of_an_artifact_is_taken_away(tmp_path):
    store, made = ArtifactStore(tmp_path), []
    folder = stored(store, made)
    for number, stand_in in enumerate((Path.touch, lambda path: path.symlink_to("nothing"))):
        for path in [*folder.iterdir()]:
            path.unlink()
        folder.rmdir()
        stand_in(folder)
        assert (stored(store, made) / "own.safetensors").is_file()
        assert len(made) == number + 2


def test_every_shipped_file_is_noted_and_right():
    shipped = ROOT / "data/pretrained"
    files = [path for path in shipped.rglob("*") if path.is_file() and path.name != CHECKSUMS]
    assert len(files) > 100
    for path in files:
        assert path.name in json.loads((path.parent / CHECKSUMS).read_text()), path
    for notes in shipped.rglob(CHECKSUMS):
        check_folder(notes.parent)
