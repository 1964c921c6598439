"""Insertion and deletion against torch-cam's, ROAD against pytorch-grad-cam's, on the same maps."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from conftest import median_seconds
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torchcam.metrics import DeletionInsertionMetric
from torchvision.models import resnet18

from gan_lib.classifiers import load_classifier
from gan_lib.core.masking import top_share
from gan_lib.data import photographs
from gan_lib.explainers import GradCAM, Saliency
from gan_lib.metrics import Probe, perturbation_curves, road_curves
from gan_lib.metrics.imputation import Imputer

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 5


def precision(mixed):
    return "ours in mixed precision" if mixed else "float32"


class GivenMaps:
    """What torch-cam's metric asks of an extractor: the model, and maps that are there already."""

    def __init__(self, model, maps):
        self.model, self.given = model, maps[:, 0]

    def __call__(self, *_, **__):
        return [self.given]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
@pytest.mark.parametrize(("name", "count"), [("slim_vgg", 32), ("resnet18", 4)])
def test_insertion_and_deletion(record, benchmark, name, count, mixed):
    torch.manual_seed(0)
    if name == "slim_vgg":
        cnn, size = load_classifier(ROOT / "data" / "pretrained" / "slim_vgg").eval(), 64
    else:
        cnn, size = resnet18().eval(), 224
    images = torch.rand(count, 3, size, size)
    target = cnn(images).argmax(1)
    maps = GradCAM(cnn).attribute(images, target)
    probe = Probe(cnn, mixed_precision=mixed)

    def ours():
        return perturbation_curves(probe, images, maps, target, steps=20)

    def theirs():
        metric = DeletionInsertionMetric(GivenMaps(cnn, maps), lambda logits: logits.softmax(-1), steps=20)
        metric.update(images, target.tolist())
        return metric.summary()

    curves, expected = ours(), theirs()
    own = float(torch.trapezoid(curves.insertion, curves.shares, dim=1).mean())
    assert own == pytest.approx(expected["insertion_auc"], abs=0.01 if mixed else 1e-4)
    seconds = median_seconds({"ours": ours, "torch-cam": theirs}, ROUNDS)
    what = f"insertion and deletion, 20 steps, {name}, {count} images at {size} px, {precision(mixed)}"
    record(what, "ours", "torch-cam", seconds["ours"] / seconds["torch-cam"], ROUNDS)
    benchmark.pedantic(ours, rounds=1)
    assert seconds["ours"] < seconds["torch-cam"]


@pytest.mark.parametrize("kind", ["Grad-CAM", "saliency"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_imputation(record, benchmark, kind, share):
    """Two photographs at 224 px, the highest pixels removed."""
    torch.manual_seed(0)
    cnn = resnet18().eval()
    images = photographs((224, 224))
    maps = (GradCAM if kind == "Grad-CAM" else Saliency)(cnn).attribute(images)
    known = ~top_share(maps, share)

    def ours():
        return Imputer(tolerance=1e-6)(images, known)

    def theirs():
        imputer = NoisyLinearImputer(noise=0)
        return torch.stack([imputer(image, own[0].float()) for image, own in zip(images, known, strict=True)])

    difference = (ours() - theirs()).abs().max()
    assert difference < 1e-4
    seconds = median_seconds({"ours": ours, "theirs": theirs}, ROUNDS)
    what = f"ROAD's imputation, 2 images at 224 px, {kind}, {100 * share:.0f} % removed"
    record(what, "ours", "pytorch-grad-cam", seconds["ours"] / seconds["theirs"], ROUNDS)
    benchmark.pedantic(ours, rounds=1)


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
@pytest.mark.parametrize("kind", ["Grad-CAM", "saliency"])
def test_road(record, benchmark, kind, mixed):
    """The whole metric as both define it: most and least relevant first, nine shares, noise, the CNN."""
    torch.manual_seed(0)
    cnn = resnet18().eval().requires_grad_(False)
    images = photographs((224, 224))
    target = cnn(images).argmax(1)
    maps = (GradCAM if kind == "Grad-CAM" else Saliency)(cnn).attribute(images, target)
    probe, shares = Probe(cnn, mixed_precision=mixed), [share / 10 for share in range(1, 10)]

    def ours():
        highest, lowest = road_curves(probe, images, maps, target, shares)
        return (lowest - highest).mean(1) / 2

    def theirs():
        asked = [ClassifierOutputSoftmaxTarget(int(label)) for label in target]
        return torch.as_tensor(ROADCombined()(images, maps[:, 0].numpy(), asked, cnn))

    assert (ours() - theirs()).abs().max() < 0.02, "noise, and ties at the percentile"
    seconds = median_seconds({"ours": ours, "theirs": theirs}, 3)
    what = f"ROAD, 9 shares in both orders, ResNet18, 2 images at 224 px, {kind}, {precision(mixed)}"
    record(what, "ours", "pytorch-grad-cam", seconds["ours"] / seconds["theirs"], 3)
    benchmark.pedantic(ours, rounds=1)
