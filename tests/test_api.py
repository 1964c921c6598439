"""The front door: README's lines run, and each does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

import gan_lib
from gan_lib.api import explaining
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer import conditions_of
from gan_lib.metrics import sanity_checks
from gan_lib.workbench import ProfileError, Recipe, jobs
from gan_lib.workbench.jobs import ContrastiveJob

ROOT = Path(__file__).parent.parent
READMES = "\n".join((ROOT / name).read_text() for name in ("README.md", "gan_lib/README.md"))
# A CNN of one's own has a test of its own, with a module to import.
BLOCKS = [own for own in re.findall(r"```python\n(.*?)```", READMES, re.DOTALL) if "my_nets" not in own]


def test_importing_it_is_cheap():
    """No torch until it is needed; the fastest of three processes counts, for others may be at work."""
    code = (
        "import sys, time; start = time.perf_counter(); import gan_lib; "
        "print(time.perf_counter() - start, 'torch' in sys.modules, 'Saliency' in dir(gan_lib))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert {tuple(own[1:]) for own in told} == {("False", "True")}
    assert min(float(own[0]) for own in told) < 0.1


def test_every_name_at_the_top_is_there():
    for name in gan_lib.__all__:
        assert getattr(gan_lib, name).__name__ == name if callable(getattr(gan_lib, name)) else True
    assert gan_lib.GradCAM is sys.modules["gan_lib.explainers"].GradCAM
    for method in gan_lib.METHODS.values():
        if isinstance(method.make, type) and method.make.__module__.startswith("gan_lib"):
            assert method.make.__name__ in gan_lib.__all__
    with pytest.raises(AttributeError, match=r"GuidedGradCam; did you mean .*GuidedGradCAM"):
        _ = gan_lib.GuidedGradCam  # Captum's spelling
    with pytest.raises(AttributeError, match=r"nothing_like_it$"):
        _ = gan_lib.nothing_like_it


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of five pictures in the working directory, which lies in no project: one, ever darker."""
    picture = np.random.default_rng(0).integers(0, 255, (70, 80, 3))
    (tmp_path / "photos").mkdir()
    for number in range(5):
        darker = (picture * (1 - number / 40)).astype(np.uint8)
        Image.fromarray(darker).save(tmp_path / f"photos/{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_the_lines_of_the_readme(block, photos, monkeypatch):
    small = gan_lib.Recipe().changed(
        {"contrastive.epochs": 1, "contrastive.held_out": 8, "features.width": 4, "gan.images": 24}
    )
    monkeypatch.setattr(explaining, "Recipe", lambda: small)
    (photos / "data").symlink_to(ROOT / "data")
    own = {"data": gan_lib.digits_in_scenes(train=40, test=4, seed=1), "layer": "backbone.features.26"}
    exec(block, own)
    if "gan_lib.compare" not in block:
        return
    for name in ("load_cnn", "wrap", "read_images", "explainer", "train_explainer", "sanity", "Concepts"):
        assert f"gan_lib.{name}(" in block
    assert own["found"].maps.shape == (5, 1, 64, 64)
    assert (photos / "out" / "explanations.csv").is_file()
    table = gan_lib.compare(own["cnn"], own["images"], ["grad-cam", own["gan"], "edges"])
    assert table.index.tolist() == ["grad_cam", "universal_lsft", "edges"]
    assert re.fullmatch(r"-?\d+\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]", table.loc["edges", "ROAD"])
    assert own["mine"].name == "contrastive_lsft"
    assert own["concepts"].transform(own["images"]).shape[0] == 5


def test_a_shipped_cnn_is_found_from_anywhere(photos):
    cnn = gan_lib.load_cnn("slim_vgg")
    assert not cnn.training
    assert not any(parameter.requires_grad for parameter in cnn.parameters())
    assert gan_lib.read_images("photos/*.png", cnn).shape == (5, 3, 64, 64)
    assert gan_lib.read_images("photos", (20, 30)).shape == (5, 3, 20, 30)
    gan_lib.save_classifier(cnn, photos / "mine")
    assert torch.equal(gan_lib.load_cnn("mine").mean, cnn.mean), "the folder of one's own"
    with pytest.raises(
        FileNotFoundError, match=r"no weights for 'slim_resnet'.*mobilenet_v2, resnet20, slim_vgg"
    ):
        gan_lib.load_cnn("slim_resnet")
    with pytest.raises(FileNotFoundError, match="no weights for 'no_such'"):
        gan_lib.load_cnn("no_such")


def test_an_own_cnn_is_wrapped(tiny_net, images):
    tiny_net.train()
    cnn = gan_lib.wrap(tiny_net, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), ["a", "b", "c", "d"], 16)
    expected = tiny_net(
        (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    )
    assert not tiny_net.training
    assert torch.allclose(cnn(images), expected, atol=1e-5)
    assert cnn.class_names == ("a", "b", "c", "d")
    assert gan_lib.read_images(np.zeros((40, 30)), cnn).shape == (1, 3, 16, 16)
    plain = gan_lib.wrap(tiny_net)
    assert plain.class_names == ("0", "1", "2", "3")
    assert gan_lib.read_images(np.zeros((40, 30)), plain).shape == (1, 3, 224, 224)
    with pytest.raises(ValueError, match="2 class names for 4 logits"):
        gan_lib.wrap(tiny_net, class_names=["a", "b"])
    with pytest.raises(ValueError, match="mean has three values"):
        gan_lib.wrap(tiny_net, mean=[0.5])
    with pytest.raises(KeyError, match="no contrastive-lsft is trained for this CNN"):
        gan_lib.explainer("contrastive-lsft", cnn)


class Left(gan_lib.Explainer):
    """Shows the left half of the image, whatever the CNN."""

    def maps(self, images, target):
        maps = torch.zeros_like(images[:, :1])
        maps[..., : maps.shape[-1] // 2] = 1
        return maps


def test_a_comparison_worked_out_by_hand(colour_net):
    """The class' colour is in the left half alone: showing it loses nothing, edges and drops tell."""
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0, :, :4] = images[1, 2, :, :4] = 1
    evidence = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    evidence[..., :4] = True
    table = gan_lib.compare(colour_net, images, [Left(colour_net), "random"], evidence=evidence)
    assert table.loc["Left", "Dice"] == "1.00 [1.00, 1.00]"
    assert table.loc["Left", "pointing"] == "1.00 [1.00, 1.00]"
    given = [column for column in table if column.startswith("drop")]
    assert given == ["drop black @10", "drop blur @10"]
    swapped = gan_lib.compare(colour_net, images, [Left(colour_net)], targets=torch.tensor([2, 0]))
    assert swapped.loc["Left", "drop black @10"] == "0.00 [0.00, 0.00]", "the other class has nothing to lose"
    with pytest.raises(ValueError, match="different names"):
        gan_lib.compare(colour_net, images, ["edges", "Edges"])


def test_what_does_not_look_at_the_cnn_does_not_pass_the_checks(tiny_net, images):
    before = {name: tensor.clone() for name, tensor in tiny_net.state_dict().items()}
    table = gan_lib.sanity(gan_lib.explainer("edges", tiny_net), images, stages=2)
    assert table["check"].tolist() == ["randomised", "randomised", "another class"]
    assert table["share"].tolist()[:2] == [pytest.approx(0.4), 1.0]
    assert np.allclose(table[["rank", "ssim"]], 1)
    own = gan_lib.explainer("saliency", tiny_net)
    table = gan_lib.sanity(own, images, stages=2)
    assert (table["rank"] < 0.9).all()
    assert (table["rank_low"] <= table["rank"]).all()
    assert (table["rank"] <= table["rank_high"]).all()
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_net.state_dict().items())


@pytest.mark.parametrize("method", ["saliency", "grad_cam", "deep_lift", "guided_grad_cam"])
def test_the_check_is_of_the_randomised_cnn(method, tiny_net, images):
    """Other weights in the same CNN give the maps that an explainer of another CNN gives."""
    classes = tiny_net(images).argmax(1)
    fresh = {method: lambda net, own, target: gan_lib.explainer(method, net).attribute(own, target)}
    expected, _ = sanity_checks(fresh, tiny_net, images, classes, stages=3, classes=4)
    table = gan_lib.sanity(gan_lib.explainer(method, tiny_net), images, stages=3)
    own = table[table["check"] == "randomised"][list(expected.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, expected, check_exact=False, atol=1e-5)


def test_the_cnn_has_its_weights_back_after_a_failure(tiny_net, images):
    class Failing(gan_lib.Explainer):
        def maps(self, images, target):
            if next(self.cnn.parameters()).flatten()[0] != first:
                raise RuntimeError("other weights")
            return images[:, :1]

    first = next(tiny_net.parameters()).flatten()[0].clone()
    with pytest.raises(RuntimeError, match="other weights"):
        gan_lib.sanity(Failing(tiny_net), images)
    assert next(tiny_net.parameters()).flatten()[0] == first


def test_an_explainer_is_trained(tmp_path, photos):
    cnn = gan_lib.load_cnn("slim_vgg")
    weights = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    images = gan_lib.digits_in_scenes(train=24, test=2).train.batch(range(24)).images
    recipe = gan_lib.Recipe().changed(
        {"contrastive.epochs": 1, "contrastive.held_out": 8, "features.width": 4, "seeds": [3]}
    )
    mine = gan_lib.train_explainer(cnn, images, recipe, tmp_path / "run")
    again = gan_lib.train_explainer(cnn, images, recipe)
    other = gan_lib.train_explainer(cnn, images, recipe.changed({"seeds": [4]}))
    maps = mine.attribute(images[:2])
    assert torch.equal(maps, again.attribute(images[:2]))
    assert not torch.equal(maps, other.attribute(images[:2]))
    assert all(torch.equal(weights[name], tensor) for name, tensor in cnn.state_dict().items())
    mine.save(tmp_path / "mine")
    loaded = gan_lib.GeneratorExplainer.from_pretrained(tmp_path / "mine", cnn)
    assert torch.allclose(loaded.attribute(images[:2]), maps, atol=1e-6)
    with pytest.raises((ProfileError, FileNotFoundError), match=r"no project|no_such"):
        gan_lib.train_explainer(cnn, images, recipe="no_such")


def test_a_cnn_that_is_no_classifier_can_be_explained(tiny_net, images):
    found = gan_lib.explainer("grad-cam", tiny_net).explain(images)
    assert found.class_names == ("class 0", "class 1", "class 2", "class 3")
    assert isinstance(
        gan_lib.explainer("integrated-gradients", tiny_net, steps=2), gan_lib.IntegratedGradients
    )
    assert isinstance(tiny_net, nn.Module)


def test_a_cnn_of_torchvision_is_in_eval_mode(tmp_path):
    save_file(resnet18().state_dict(), tmp_path / "weights.safetensors")
    cnn = gan_lib.load_cnn("resnet18", weights=str(tmp_path / "weights.safetensors"))
    assert not any(module.training for module in cnn.modules())
    assert not any(parameter.requires_grad for parameter in cnn.parameters())
    assert not any(module.training for module in gan_lib.wrap(resnet18(), image_size=32).modules())


def test_training_leaves_the_global_generator_alone(monkeypatch, tiny_net, images):
    """The caller's random numbers go on where they were."""
    monkeypatch.setattr(ContrastiveJob, "train", lambda *given: torch.manual_seed(5))
    monkeypatch.setattr(jobs, "load_generator", lambda folder: nn.Identity())
    monkeypatch.setattr(jobs, "ContrastiveExplainer", lambda *given: nn.Identity())
    cnn = gan_lib.wrap(tiny_net, image_size=16)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    gan_lib.train_explainer(cnn, images, Recipe().changed({"features.layers": 2}))
    assert torch.equal(torch.rand(1), expected)


def test_an_explainer_that_reads_evidence_is_trained_and_kept(tiny_net, images, tmp_path):
    """Of a CNN with fewer layers than are read: each condition has a name of its own."""
    cnn = gan_lib.wrap(tiny_net, image_size=16)
    small = {"width": 8, "stem_stride": 8, "detail": 4, "emphasis": 3.0}
    changes = {"gan.reads": "evidence", **{f"evidence.{name}": own for name, own in small.items()}}
    changes |= {"evidence.layers": 4, "contrastive.held_out": 2, "contrastive.epochs": 1}
    pictures = torch.cat([images, images.flip(-1)])
    made = gan_lib.train_explainer(cnn, pictures, Recipe().changed(changes))
    assert (made.maker.reads, made.name) == ("evidence", "contrastive_lsft")
    maps = made.attribute(images)
    made.save(tmp_path / "contrastive-lsft")
    again = GeneratorExplainer.from_pretrained(tmp_path / "contrastive-lsft", cnn)
    assert torch.equal(again.attribute(images), maps)
    names = list(conditions_of(made, images[:1], 1))
    assert len(names) == 5
    assert names[-1] == "evidence for the class"


def test_a_mask_takes_images_of_an_explanation(tiny_net, images):
    found = gan_lib.explainer("edges", tiny_net).explain(images)
    assert len(found[torch.tensor([True, False, True])]) == 2
