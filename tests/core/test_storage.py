from __future__ import annotations

import json

import pytest
import torch
from joblib import Parallel, delayed

from gan_lib.core import artifacts
from gan_lib.core.artifacts import ArtifactStore, code_version, digest
from gan_lib.core.storage import (
    ShardedRows,
    ShardWriter,
    atomic_path,
    load_checkpoint,
    load_tensors,
    read_json,
    save_checkpoint,
    save_tensors,
)


def test_checkpoint_keeps_nested_state(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.5, 0.9))
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "step": 7, "pair": (1, [2.5, None]), "name": "x"}
    save_checkpoint(tmp_path / "c.safetensors", state)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded["step"] == 7
    assert loaded["pair"] == (1, [2.5, None])
    for index, moments in state["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(loaded["optimizer"]["state"][index][name], value)
    torch.optim.Adam(model.parameters()).load_state_dict(loaded["optimizer"])


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    save_tensors(tmp_path / "w.safetensors", {"a": torch.ones(2)})

    def fail():
        with atomic_path(tmp_path / "w.safetensors") as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert load_tensors(tmp_path / "w.safetensors")["a"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    with pytest.raises(FileNotFoundError, match="no weights"):
        load_tensors(tmp_path / "other.safetensors")


@pytest.mark.parametrize("batch", [1, 3, 10, 25])
def test_shards_give_back_the_rows(tmp_path, batch):
    values, names = torch.arange(50.0).view(25, 2), torch.arange(25)
    with ShardWriter(tmp_path, rows_per_shard=4) as writer:
        for start in range(0, 25, batch):
            writer.write(values=values[start : start + batch], names=names[start : start + batch])
    rows = ShardedRows(tmp_path, "values")
    assert len(rows) == 25
    assert rows.shape == (25, 2)
    wanted = torch.tensor([24, 0, 3, 4, 11])
    assert torch.equal(rows[wanted], values[wanted])
    assert torch.equal(rows[3:9], values[3:9])
    assert torch.equal(rows[-1], values[-1])
    (fetched,) = Parallel(n_jobs=2)([delayed(ShardedRows.__getitem__)(rows, slice(None))])
    assert torch.equal(fetched, values), "a worker process reads the same rows"
    with pytest.raises(KeyError, match="values"):
        ShardedRows(tmp_path, "missing")
    with pytest.raises(IndexError):
        rows[torch.tensor([25])]


def test_shards_that_were_not_finished_do_not_count(tmp_path):

    def fail():
        with ShardWriter(tmp_path, 2) as writer:
            writer.write(values=torch.zeros(3))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    with pytest.raises(FileNotFoundError, match="no complete shards"):
        ShardedRows(tmp_path, "values")
    with pytest.raises(ValueError, match="same columns"), ShardWriter(tmp_path, 2) as writer:
        writer.write(a=torch.zeros(3), b=torch.zeros(2))


def test_store_makes_once_per_key_and_resumes_what_was_left(tmp_path):
    store = ArtifactStore(tmp_path)
    calls = []

    def make(folder):
        calls.append(folder.name)
        (folder / "checkpoint.json").write_text("1")
        if len(calls) == 1:
            raise KeyboardInterrupt
        assert (folder / "checkpoint.json").is_file()
        (folder / "result.json").write_text(json.dumps(len(calls)))

    with pytest.raises(KeyboardInterrupt):
        store.get("kind", "gan_lib.core.storage", {"a": 1}, make)
    assert not list(tmp_path.glob("kind/*/made_from.json"))
    folder = store.get("kind", "gan_lib.core.storage", {"a": 1}, make)
    assert store.get("kind", "gan_lib.core.storage", {"a": 1}, make) == folder
    assert len(calls) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "made_from.json",
        "result.json",
    ]
    assert store.get("kind", "gan_lib.core.storage", {"a": 2}, make) != folder
    assert sorted(read_json(path)["a"] for path in tmp_path.glob("kind/*/made_from.json")) == [1, 2]


def test_code_version_follows_code_and_imports_but_not_texts(tmp_path, monkeypatch):
    source = tmp_path / "probe.py"

    def version(text):
        source.write_text(text)
        spec = artifacts.importlib.util.spec_from_file_location("probe", source)
        monkeypatch.setattr(
            artifacts.importlib.util, "find_spec", lambda name: spec if name == "probe" else None
        )
        code_version.cache_clear()
        return code_version("probe")

    plain = version("def f():\n    return 1\n")
    assert version('"""Text."""\ndef f():\n    """More."""\n    return 1  # why\n') == plain
    assert version("def f():\n    return 2\n") != plain
    monkeypatch.undo()
    code_version.cache_clear()
    assert code_version("gan_lib.gan.training") != code_version("gan_lib.core.capture")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_code_that_only_moves_bytes_is_in_no_address(tmp_path, monkeypatch):
    def version(text, plumbing=""):
        (tmp_path / "probe_pk").mkdir(exist_ok=True)
        (tmp_path / "probe_pk/__init__.py").write_text("")
        (tmp_path / "probe_pk/main.py").write_text(f"from probe_pk import pipes\n{text}\n")
        (tmp_path / "probe_pk/pipes.py").write_text(plumbing)
        code_version.cache_clear()
        return code_version("probe_pk.main")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(artifacts, "PLUMBING", ("probe_pk.pipes",))
    before = version("V = 1")
    assert version("V = 1", "W = 2") == before
    assert version("V = 2", "W = 2") != before
    monkeypatch.setattr(artifacts, "PLUMBING", ())
    assert version("V = 1", "W = 3") != version("V = 1", "W = 2")


def test_the_code_of_a_package_from_outside_is_all_of_it(tmp_path, monkeypatch):
    (tmp_path / "outside_pk").mkdir()
    (tmp_path / "outside_pk/__init__.py").write_text("")
    (tmp_path / "outside_pk/metrics.py").write_text("from .helper import V\nfrom outside_pk import other\n")
    (tmp_path / "outside_pk/other.py").write_text("W = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = set()
    for helper, other in ((1, 1), (2, 1), (2, 2)):
        (tmp_path / "outside_pk/helper.py").write_text(f"V = {helper}\n")
        (tmp_path / "outside_pk/other.py").write_text(f"W = {other}\n")
        code_version.cache_clear()
        seen.add(code_version("outside_pk.metrics"))
    assert len(seen) == 3
