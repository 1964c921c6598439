"""What a profile names is looked for beside it, then in ``data/``."""

from __future__ import annotations

import itertools
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch
from torch import nn

from gan_lib.core.storage import save_tensors
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.workbench import Places, Recipe, Workbench
from gan_lib.workbench.named import asked_files, check_named, data_root, fingerprints, weights_of

SHALLOW = """
from torch import nn


def make_net(count):
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, count))
"""


@pytest.fixture
def own(tmp_path):
    """Places of a profile in ``own``, beside which lies less than in ``data``."""
    for folder, names in (("own", ["a.png", "set/x"]), ("data", ["a.png", "b.png", "set/x", "other/x"])):
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(folder)
    return Places(tmp_path / "notebooks", tmp_path / "data", tmp_path / "figures", tmp_path / "own")


@pytest.mark.parametrize(("name", "folder"), [("set", "own"), ("other", "data"), ("mnist", "data")])
def test_data(own, tmp_path, name, folder):
    (tmp_path / "own/mnist").mkdir()
    assert data_root(Recipe().changed({"data.name": name}), own) == tmp_path / folder


def test_absolute_paths_and_projects_without_a_profile(own, tmp_path):
    recipe = Recipe().changed({"data.name": str(tmp_path / "own/set"), "asked": [["a.png", "x"]]})
    plain = Places.of(tmp_path)
    assert data_root(recipe, plain) / recipe.data.name == tmp_path / "own/set"
    assert asked_files(recipe, plain) == [tmp_path / "data/a.png"]
    with pytest.raises(FileNotFoundError, match=f"in {tmp_path / 'data'}; there are"):
        data_root(Recipe().changed({"data.name": "zzz"}), plain)


def test_pictures_and_weights(own, tmp_path):
    recipe = Recipe().changed({"asked": [["a.png", "cat"], ["b.png", "dog"]], "cnn.weights": "a.png"})
    assert asked_files(recipe, own) == [tmp_path / "own/a.png", tmp_path / "data/b.png"]
    assert weights_of(recipe, own) == str(tmp_path / "own/a.png")
    first = fingerprints(recipe, own)
    (tmp_path / "own/a.png").write_text("other")
    assert fingerprints(recipe, own).keys() == {"weights"}
    assert fingerprints(recipe, own) != first, "the content counts, and not the name"
    imagenet = Recipe().changed({"cnn.architecture": "resnet50", "cnn.weights": "IMAGENET1K_V2"})
    assert weights_of(imagenet, own) == "IMAGENET1K_V2"
    assert fingerprints(imagenet, own) == {}
    assert weights_of(Recipe(), own) is None
    with pytest.raises(ValueError, match=r"slim_vgg has no weights 'IMAGENET1K_V1'.*are DEFAULT"):
        weights_of(Recipe().changed({"cnn.weights": "IMAGENET1K_V1"}), own)


def test_a_cnn_and_its_weights_beside_the_profile_with_fewer_layers_than_asked_for(
    places, tmp_path, monkeypatch
):
    """As many conditions as it has layers, in a notice; trained by contrast in workers that import it too."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shallow_models.py").write_text(SHALLOW)
    (tmp_path / "mine.yaml").write_text((places.profiles / "tiny.yaml").read_text())
    given = {"cnn.architecture": "shallow_models:make_net", "cnn.weights": "net.safetensors", "cnn.epochs": 0}
    asked = {"features.layers": 8, "generator.conditions": 8, "machine.workers": 2, "seeds": [0, 1]}
    spec = spec_from_file_location("somewhere_else", tmp_path / "shallow_models.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.make_net(10)
    save_tensors(tmp_path / "net.safetensors", net.state_dict())
    bench = Workbench("test", str(tmp_path / "mine.yaml"), given | asked, places)
    subject = bench.subject()
    assert torch.equal(subject.cnn.backbone[0].weight.cpu(), net[0].weight)
    with pytest.warns(UserWarning, match="2 conditions instead of 8: so many layers are there before"):
        assert subject.maker().positions == [1, 2]
    with pytest.warns(UserWarning, match="2 layers are read instead of 8") as told:
        trained = subject.contrastive(["lsft"])
    assert len([own for own in told if "instead of" in str(own.message)]) == 1
    with pytest.warns(UserWarning, match="instead of 8"):
        plan = subject.contrastive_plan(["lsft"])
    assert {job.layers for job in plan.jobs} == {2}, "workers do not say it again"
    assert {len(made.explainer.maker.layers) for made in trained.values()} == {2}
    sample = subject.draw(2)
    for made in trained.values():
        assert made.explainer.attribute(sample.images, sample.explained).shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("convolutions", "count", "read"), [(1, 8, ["0"]), (2, 8, ["1"]), (3, 2, ["1", "2"])]
)
def test_features_of_shallow_cnns(convolutions, count, read):
    channels = [3, *[4] * convolutions]
    layers = [nn.Conv2d(one, other, 3, padding=1) for one, other in itertools.pairwise(channels)]
    cnn = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    if len(read) < count:
        with pytest.warns(UserWarning, match=f"{len(read)} layers are read instead of {count}"):
            maker = FeatureMaker(cnn, (8, 8), count)
    else:
        maker = FeatureMaker(cnn, (8, 8), count)
    assert maker.layers == read


def test_a_cnn_without_a_convolution_to_read():
    cnn = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="only convolution"):
        FeatureMaker(cnn, (8, 8), 1)


def test_all_that_is_named_by_the_defaults_is_there(tmp_path):
    check_named(Recipe(), Places.of(tmp_path))
