"""Weights of every usual form are read right, or refused in one sentence that says what to do."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from gan_lib.classifiers import load_classifier, make_classifier, save_classifier
from gan_lib.classifiers.matching import match
from gan_lib.classifiers.weights import read_weights
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import load_tensors, write_json

NAMES = ["a", "b", "c"]


class Small(nn.Module):
    """Images to logits (B, K), with batch normalisation."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(images)).mean((2, 3)))


class Inside(nn.Module):
    """All its names begin with ``model``."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.model = Small(num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


FACTORY = f"{__name__}:Small"


@pytest.fixture
def state():
    """Values that no initialisation draws: 1, 2, 3, ... in each tensor, and 7 batches counted."""
    own = Small().state_dict()
    made = {name: torch.arange(1.0, value.numel() + 1).view_as(value) for name, value in own.items()}
    return OrderedDict(made, **{"norm.num_batches_tracked": torch.tensor(7)})


def loaded(path, architecture=FACTORY, names=NAMES):
    return make_classifier(architecture, names, path)


def values(cnn):
    return cnn.backbone.state_dict()


def assert_same(cnn, state):
    own = values(cnn)
    assert len(own) == len(state)
    for name, value in state.items():
        assert torch.equal(own[name], value), name


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "plain": lambda own: own,
    "state_dict": lambda own: {"epoch": 3, "state_dict": own, "best": 0.5},
    "model": lambda own: {"model": own, "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}, "lr": 1.0}},
    "model_state_dict": lambda own: {"model_state_dict": own, "loss": torch.tensor(0.25)},
    "net": lambda own: {"net": own},
    "ema": lambda own: {"ema": prefixed(own, "module."), "model": {"other": torch.ones(2)}},
    "twice the same": lambda own: {"model": own, "ema": dict(own)},
    "two deep": lambda own: {"checkpoint": {"state_dict": own}},
    "module.": lambda own: prefixed(own, "module."),
    "model.": lambda own: prefixed(own, "model."),
    "_orig_mod.": lambda own: prefixed(own, "_orig_mod."),
    "backbone.": lambda own: prefixed(own, "backbone."),
    "net.": lambda own: prefixed(own, "net."),
    "combined": lambda own: {"state_dict": prefixed(own, "model._orig_mod.module.")},
    "compiled within": lambda own: {name.replace("conv.", "conv._orig_mod."): t for name, t in own.items()},
    "parameters": lambda own: {n: nn.Parameter(t) if t.is_floating_point() else t for n, t in own.items()},
    "of profilers": lambda own: own | {"total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)},
    "averaged": lambda own: prefixed(own, "module.") | {"n_averaged": torch.tensor(5)},
    "counters of layers that have none": lambda own: own | {"conv.num_batches_tracked": torch.tensor(1)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_values(form, state, tmp_path):
    torch.save(FORMS[form](state), tmp_path / "net.pth")
    assert_same(loaded(tmp_path / "net.pth"), state)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_the_content_tells_what_a_file_is_and_not_its_ending(kind, name, state, tmp_path):
    path = tmp_path / name
    if kind == "safetensors":
        save_file(dict(state), path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    assert_same(loaded(str(path)), state)


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_a_cnn_whose_own_names_have_a_prefix(prefix, state, tmp_path):
    save_file(prefixed(state, prefix), tmp_path / "net.safetensors")
    own = values(loaded(tmp_path / "net.safetensors", f"{__name__}:Inside"))
    assert own.keys() == prefixed(state, "model.").keys()
    assert all(torch.equal(own[f"model.{name}"], value) for name, value in state.items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_float32(kind, state, tmp_path):
    other = {name: own.to(kind) if own.is_floating_point() else own for name, own in state.items()}
    save_file(other, tmp_path / "net.safetensors")
    cnn = loaded(tmp_path / "net.safetensors")
    assert {own.dtype for own in cnn.parameters()} == {torch.float32}
    assert_same(cnn, state)  # whole numbers up to 108 are exact in all of them


def test_old_files_lack_the_counters_of_batch_normalisation(state, tmp_path):
    del state["norm.num_batches_tracked"]
    torch.save(state, tmp_path / "net.pth")
    assert_same(loaded(tmp_path / "net.pth"), state | {"norm.num_batches_tracked": torch.tensor(0)})


def test_what_this_package_has_saved_is_read_back(state, tmp_path):
    torch.save(state, tmp_path / "net.pth")
    save_classifier(loaded(tmp_path / "net.pth"), tmp_path / "saved")
    assert_same(loaded(tmp_path / "saved" / "classifier.safetensors"), state)


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_auxiliary_heads_are_left_out(name, tmp_path):
    whole = get_model(name, weights=None, aux_logits=True, init_weights=False, num_classes=1000).state_dict()
    torch.save({"state_dict": prefixed(whole, "module.")}, tmp_path / "net.pth")
    cnn = make_classifier(name, NAMES, tmp_path / "net.pth")
    kept = [key for key in whole if key in values(cnn) and not key.startswith("fc.")]
    assert len(kept) == len(values(cnn)) - 2
    assert all(torch.equal(values(cnn)[key], whole[key]) for key in kept)
    assert cnn.card.mean == cnn.card.std == (0.5, 0.5, 0.5), "what its weights were trained with"


def test_densenets_as_they_were_once_called():
    """``norm.1`` in the files that torchvision publishes, ``norm1`` in its models."""
    ours, theirs = (
        "features.denseblock1.denselayer2.norm1.weight",
        "features.denseblock1.denselayer2.norm.1.weight",
    )
    found = match({theirs: torch.ones(2)}, {ours: torch.zeros(2)})
    assert found.fits
    assert found.state[ours].tolist() == [1, 1]


# -- what is refused ---------------------------------------------------------------------------------


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def _cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def _saved(own, path):
    torch.save(own, path)
    return path


def _numpy(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


BAD_FILES = {
    "LFS": (
        lambda p, s: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"),
        "pointer of Git LFS.*git lfs pull",
    ),
    "text": (lambda p, s: p.write_text("epoch,loss\n1,2\n"), "text, 'epoch,loss 1,2'.*wanted"),
    "empty": (lambda p, s: p.write_bytes(b""), "empty, 0 bytes"),
    "web page": (lambda p, s: p.write_text("\n<!DOCTYPE html><html>404"), "web page.*download the file"),
    "web page, old": (lambda p, s: p.write_text("<HTML><body>"), "web page"),
    "folder": (lambda p, s: (p.mkdir(), (p / "in.pth").write_text("x")), r"is a folder.*holds in\.pth"),
    "cut safetensors": (lambda p, s: (save_file(dict(s), p), _cut(p, 0.5)), "no whole safetensors file"),
    "cut zip": (lambda p, s: (torch.save(s, p), _cut(p, 0.5)), "cut short: copy or download"),
    "cut legacy": (
        lambda p, s: (torch.save(s, p, _use_new_zipfile_serialization=False), _cut(p, 0.5)),
        "damaged or cut short",
    ),
    "other bytes": (lambda p, s: p.write_bytes(bytes(range(200, 256)) * 9), "is neither: a safetensors file"),
    "HDF5": (lambda p, s: p.write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 99), "HDF5.*Keras"),
    "NumPy": (lambda p, s: _numpy(p), "a NumPy array"),
    "archive": (
        lambda p, s: zipfile.ZipFile(p, "w").writestr("readme.txt", "x"),
        r"archive of readme\.txt|cut short",
    ),
    "whole module": (lambda p, s: torch.save(Small(), p), r"Python objects \(.*Small\).*save its state_dict"),
    "namespace": (
        lambda p, s: torch.save({"state_dict": s, "numpy": np.float64(1)}, p),
        r"Python objects \(numpy.*scalar\).*save its state_dict",
    ),
    "plain pickle": (lambda p, s: p.write_bytes(pickle.dumps(dict(s))), "more than tensors|Python objects"),
    "one tensor": (lambda p, s: torch.save(torch.ones(3), p), "holds a Tensor, not tensors by name"),
    "a list": (lambda p, s: torch.save([torch.ones(3)], p), "holds a list, not tensors by name"),
    "no tensor": (lambda p, s: torch.save({"epoch": 3}, p), "no tensors by name, but epoch"),
    "quantised": (
        lambda p, s: torch.save({**s, "conv.weight": s["conv.weight"].to(torch.int8)}, p),
        r"1 of 9 tensors are quantised.*conv\.weight \(int8\)",
    ),
    "complex": (
        lambda p, s: torch.save({**s, "head.bias": s["head.bias"].to(torch.complex64)}, p),
        r"no real numbers \(head\.bias \(complex64\)\)",
    ),
    "sparse": (
        lambda p, s: torch.save({**s, "head.weight": s["head.weight"].to_sparse()}, p),
        "sparse float32",
    ),
    "NaN": (
        lambda p, s: torch.save({**s, "conv.bias": torch.tensor([1.0, torch.nan, torch.inf, 2.0])}, p),
        r"1 of 9 tensors hold NaN or infinite values \(conv\.bias \(2 of 4 values\)\)",
    ),
    "beyond float32": (
        lambda p, s: torch.save({**s, "conv.bias": torch.tensor([1e300] * 4, dtype=torch.float64)}, p),
        r"conv\.bias \(4 of 4 values\)",
    ),
    "two that fit": (
        lambda p, s: torch.save({"model": s, "ema": {n: 2 * t for n, t in s.items()}}, p),
        "2 states that fit, under 'model', 'ema': save the one",
    ),
    "another head": (
        lambda p, s: torch.save({"state_dict": prefixed(Small(7).state_dict(), "module.")}, p),
        "its head head has 7 outputs, 3 class names are given: give class_names= of its 7",
    ),
    "another shape": (
        lambda p, s: torch.save({**s, "conv.weight": torch.ones(4, 1, 3, 3)}, p),
        r"1 tensors have another shape \(conv\.weight \(4, 1, 3, 3\) in the file, \(4, 3, 3, 3\) in the CNN\)",
    ),
    "a name misspelt": (
        lambda p, s: torch.save({n.replace("head.weight", "head.wieght"): t for n, t in s.items()}, p),
        r"1 tensors are missing \(head\.weight, the file has head\.wieght\); 1 are not the CNN's \(head\.wieght\)",
    ),
    "more than it has": (
        lambda p, s: torch.save({**s, **{f"z{i}.w": torch.ones(1) for i in range(5)}}, p),
        r"5 are not the CNN's \(z0\.w, z1\.w, z2\.w, \.\.\.\)",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_what_cannot_be_used_is_refused_in_one_sentence(kind, state, tmp_path):
    make, message = BAD_FILES[kind]
    path = tmp_path / "net.safetensors"
    make(path, state)
    with pytest.raises(ValueError, match=message) as caught:
        loaded(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_in_a_file_is_run(state, tmp_path):
    torch.save({"state_dict": state, "hook": Trap(tmp_path / "sprung")}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="to read those is to run code"):
        loaded(tmp_path / "net.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nett.pth", r"no weights at .*nett\.pth: did you mean net\.pth\?"),
        ("other", r"no weights at .*the folder holds net\.pth"),
        ("gone/net.pth", r"no weights at .*there is no folder .*gone"),
    ],
)
def test_a_file_that_is_not_there(asked, message, state, tmp_path):
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(FileNotFoundError, match=message):
        loaded(tmp_path / asked)


@pytest.mark.parametrize("kind", ["LFS", "empty", "cut safetensors", "web page"])
def test_the_files_of_a_saved_cnn_and_of_other_networks_too(kind, state, tmp_path):
    save_classifier(make_classifier("slim_vgg", NAMES), tmp_path)
    path = tmp_path / "classifier.safetensors"
    make, message = BAD_FILES[kind]
    path.unlink()
    make(path, state)
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_tensors(path)


def test_a_card_that_is_none(tmp_path):
    write_json(tmp_path / "classifier.json", {"architecture": "slim_vgg", "classes": 3})
    with pytest.raises(ValueError, match=r"classifier\.json is not what save_classifier writes"):
        load_classifier(tmp_path)


def test_the_states_of_a_checkpoint_are_told_apart(state, tmp_path):
    path = _saved(
        {"a": {"b": dict(state)}, "c": {"w": torch.ones(1)}, 3: {"w": torch.ones(1)}}, tmp_path / "n.ckpt"
    )
    assert {address: len(own) for address, own in read_weights(path).items()} == {"a.b": 9, "c": 1, "3": 1}


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", "'cuda' is asked for, but torch .* finds none"), ("gpu", "auto, cpu, cuda, mps, not 'gpu'")],
)
def test_a_device_that_is_not_there(device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        make_fabric(device)
