"""Guided feature inversion: against the public code flaw by flaw, alone and in batches, in corners."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from slow_inversion import NONE, Flaws, SlowInversion, blur_of
from torch import nn
from torchvision.models import resnet18, vgg19
from torchvision.models.vgg import VGG, make_layers

from gan_lib.classifiers import Classifier, folded, make_classifier
from gan_lib.classifiers.wrap import ModelCard
from gan_lib.core.capture import Capture
from gan_lib.data.folders import read_image
from gan_lib.explainers import GuidedFeatureInversion
from gan_lib.inversion import (
    PUBLISHED_STEP_2,
    STEP_1,
    STEP_2,
    GuidedInversion,
    Inversion,
    InversionOptions,
    blurred,
    channel_mask,
    inversion_layers,
)

LAYERS = ("backbone.features.6", "backbone.features.7")


@pytest.fixture
def small_vgg() -> Classifier:
    torch.manual_seed(0)
    vgg = VGG(make_layers([8, "M", 12, 12, "M"]), num_classes=4)  # features.7 pools features.6
    vgg.avgpool, vgg.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(12, 4))
    return Classifier(vgg, ModelCard("small", ("a", "b", "c", "d"))).eval()


@pytest.fixture
def pictures():
    coarse = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    return nn.functional.interpolate(coarse, size=(40, 48), mode="bilinear")


def hooks(cnn):
    return [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in cnn.modules()]


# -- against the public code --------------------------------------------------------------------------


def repeated(inversion, step, base, start, options, target=None):
    """A new optimiser at every iteration, as the public code has it."""
    objectives, weights = [], start
    for iteration in range(options.iterations):
        rate = options.learning_rate * 0.5 ** (
            iteration // options.halved_every if options.halved_every else 0
        )
        once = replace(options, iterations=1, learning_rate=rate, keep="last")
        if step == 1:
            made = inversion.saliency(base, once, weights)
        else:
            made = inversion.discriminate(base, Inversion(weights, weights, weights), target, once)
        objectives.append(made.trace[0, 0])
        weights = made.weights
    return weights, torch.stack(objectives)


@pytest.mark.parametrize("flaw", [None, *(field.name for field in fields(Flaws)), "all"])
def test_the_public_code_is_reproduced(small_vgg, pictures, flaw):
    flaws = Flaws() if flaw == "all" else NONE if flaw is None else replace(NONE, **{flaw: True})
    image = pictures[:1, :, :, :40] if flaws.other_blur else pictures[:1]  # transposed, hence square
    mean, std = small_vgg.mean, small_vgg.std
    slow = SlowInversion(small_vgg.backbone, 6, 7, flaws, mean, std)
    inversion = GuidedInversion(small_vgg, *LAYERS, sigma=11.0)
    hidden = blur_of(image, flaws, mean, std) * std + mean if flaws.other_blur else None
    base, start = inversion.base(image, hidden), torch.full((1, 12), 0.1)
    second = replace(PUBLISHED_STEP_2, iterations=25)
    expected, objectives = slow.run(image)
    expected_2, objectives_2 = slow.run(image, target=2, iterations=25, start=expected)
    if flaws.moments_lost:
        weights, trace = repeated(inversion, 1, base, start, STEP_1)
        weights_2, trace_2 = repeated(inversion, 2, base, expected[None], second, target=2)
    else:
        made = inversion.saliency(base, replace(STEP_1, keep="last"))
        weights, trace = made.weights, made.trace[0, :-1]
        made = inversion.discriminate(base, replace_weights(made, expected), 2, replace(second, keep="last"))
        weights_2, trace_2 = made.weights, made.trace[0, :-1]
    assert torch.allclose(trace, torch.tensor(objectives), rtol=1e-4)
    assert torch.allclose(weights[0], expected, atol=1e-4)
    assert torch.allclose(trace_2, torch.tensor(objectives_2), rtol=1e-3, atol=1e-4)
    assert torch.allclose(weights_2[0], expected_2, atol=1e-3)


def replace_weights(inversion, weights):
    return replace(inversion, weights=weights[None])


def test_the_published_layers_are_the_defaults():
    torch.manual_seed(0)
    assert inversion_layers(vgg19(weights=None).eval(), torch.rand(1, 3, 64, 64)) == (
        "features.35",
        "features.36",
    )
    assert inversion_layers(resnet18(weights=None).eval(), torch.rand(1, 3, 64, 64)) == (
        "layer4.1.relu#1",
        "layer4.1.relu#1",
    )


class Scored(nn.Module):
    """Ends like SqueezeNet: a 1x1 convolution to the classes at every place, and their mean."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Dropout())
        self.head = nn.Sequential(nn.Conv2d(4, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, images):
        return self.head(self.features(images)).flatten(1)


def test_places_of_the_classes_own_scores_are_no_hidden_layer():
    """Though there are as many channels as classes before them, too."""
    torch.manual_seed(0)
    example = torch.rand(1, 3, 8, 8)
    assert inversion_layers(Scored().eval(), example) == ("features.2", "features.2")
    headless = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert inversion_layers(headless, example) == ("0", "0")  # there is no other
    hidden = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)).eval()
    assert inversion_layers(hidden, example) == ("0", "0")


# -- the mask and the objective -----------------------------------------------------------------------


def test_gradient_of_the_mask():
    weights = torch.rand(2, 5, dtype=torch.double, requires_grad=True)
    activations = torch.rand(2, 5, 3, 4, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda w: channel_mask(w, activations, (9, 8)), weights)


def test_mask_does_not_depend_on_the_scale_of_weights_and_is_zero_where_constant():
    activations = torch.rand(1, 5, 3, 4)
    weights = torch.rand(1, 5)
    masks = channel_mask(weights, activations, (12, 12))
    assert torch.allclose(masks, channel_mask(7 * weights, activations, (12, 12)), atol=1e-5)
    assert channel_mask(weights, torch.ones(1, 5, 3, 4), (12, 12)).abs().max() == 0


@pytest.mark.parametrize("seed", range(4))
def test_objective_never_ends_above_its_start(small_vgg, pictures, seed):
    torch.manual_seed(seed)
    for parameter in small_vgg.parameters():
        nn.init.normal_(parameter, std=0.3)
    inversion = GuidedInversion(small_vgg, *LAYERS)
    base = inversion.base(pictures)
    # A learning rate at which single iterations do go up.
    first = inversion.saliency(base, replace(STEP_1, learning_rate=0.3))
    second = inversion.discriminate(base, first, 1, replace(STEP_2, learning_rate=0.3))
    for found, again in (
        (first, inversion.saliency(base, replace(STEP_1, iterations=1), first.weights)),
        (second, inversion.discriminate(base, second, 1, replace(STEP_2, iterations=1))),
    ):
        assert (again.trace[:, 0] <= found.trace[:, 0] + 1e-4).all()
        assert (found.weights >= 0).all()
        assert found.masks.amin() >= 0
        assert found.masks.amax() <= 1


def test_a_penalty_on_the_area_makes_masks_smaller(small_vgg, pictures):
    inversion = GuidedInversion(small_vgg, *LAYERS)
    base = inversion.base(pictures)
    plain = replace(STEP_1, iterations=30, learning_rate=0.05, sparsity=0.0)
    masks = inversion.saliency(base, plain).masks
    smaller = inversion.saliency(base, replace(plain, area=1e3)).masks
    assert (smaller.mean((1, 2, 3)) < masks.mean((1, 2, 3))).all()


def test_images_do_not_know_of_each_other(small_vgg, pictures):
    inversion = GuidedInversion(small_vgg, *LAYERS)
    target = torch.tensor([1, 3, 0])
    base = inversion.base(pictures)
    together = inversion.discriminate(base, inversion.saliency(base), target)
    for row in range(3):
        own = inversion.base(pictures[row : row + 1])
        alone = inversion.discriminate(own, inversion.saliency(own), target[row : row + 1])
        assert torch.allclose(alone.trace[0], together.trace[row], rtol=1e-3, atol=1e-3)
        assert torch.allclose(alone.masks[0], together.masks[row], atol=1e-2)


def test_mixed_precision_gives_nearly_the_same(small_vgg, pictures):
    explainer = GuidedFeatureInversion(small_vgg, *LAYERS)
    exact = explainer.attribute(pictures, 1)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = explainer.attribute(pictures, 1)
    assert torch.cosine_similarity(exact.flatten(1), coarse.flatten(1), dim=1).min() > 0.98


def test_nothing_is_left_behind(small_vgg, pictures):
    small_vgg.train()
    before, weights = hooks(small_vgg), [own.clone() for own in small_vgg.state_dict().values()]
    with torch.no_grad():
        maps = GuidedFeatureInversion(small_vgg, *LAYERS).attribute(pictures, target=1)
    assert not maps.requires_grad
    assert hooks(small_vgg) == before
    assert small_vgg.training
    assert all(parameter.grad is None for parameter in small_vgg.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, small_vgg.state_dict().values(), strict=True))


def test_modules_that_run_several_times(pictures):
    torch.manual_seed(0)
    cnn = resnet18(weights=None, num_classes=4).eval()
    images = nn.functional.interpolate(pictures, size=(64, 64))
    maps = GuidedFeatureInversion(cnn, first=replace(STEP_1, iterations=3), discriminative=False).attribute(
        images
    )
    assert maps.shape == (3, 1, 64, 64)
    with pytest.raises(RuntimeError, match="ran twice"):
        GuidedFeatureInversion(cnn, "layer4.1.relu").attribute(images)


# -- bad input ----------------------------------------------------------------------------------------


def test_constant_image_and_dead_layer_give_defined_maps(small_vgg, pictures):
    explainer = GuidedFeatureInversion(small_vgg, *LAYERS)
    constant = explainer.attribute(torch.full((1, 3, 40, 40), 0.5))
    assert not constant.isnan().any()
    for module in small_vgg.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, -1.0)  # ReLU gives zeros everywhere
    with Capture(small_vgg, [LAYERS[0]]) as captured:
        small_vgg(pictures)
    assert captured[LAYERS[0]].abs().max() == 0
    assert explainer.attribute(pictures).abs().max() == 0


def test_bad_input(small_vgg, pictures):
    with pytest.raises(IndexError, match=r"outside 0..3"):
        GuidedFeatureInversion(small_vgg, *LAYERS).attribute(pictures, target=4)
    with pytest.raises(IndexError, match=r"outside 0..3"):
        GuidedFeatureInversion(small_vgg, *LAYERS, discriminative=False).attribute(pictures, target=4)
    with pytest.raises(ValueError, match="places"):
        GuidedFeatureInversion(small_vgg, "backbone.avgpool").attribute(pictures)
    with pytest.raises(ValueError, match="places"):
        GuidedFeatureInversion(small_vgg, "backbone.classifier.0").attribute(pictures)
    with pytest.raises(KeyError, match="did you mean"):
        GuidedFeatureInversion(small_vgg, "backbone.feature.6").attribute(pictures)
    with pytest.raises(ValueError, match="does not run on images of 8 x 8"):
        GuidedFeatureInversion(vgg19(weights=None, num_classes=4)).attribute(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="of 4 x 4"):  # features.6 is one place there
        GuidedFeatureInversion(small_vgg, "backbone.features.7").attribute(torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="sigma"):
        blurred(pictures, 0.0)
    for wrong in ({"iterations": 0}, {"learning_rate": -1.0}, {"keep": "first"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            InversionOptions(**wrong)
    inversion = GuidedInversion(small_vgg, *LAYERS)
    base = inversion.base(pictures)
    with pytest.raises(ValueError, match="take no weights"):
        inversion.saliency(base, start=torch.ones(3, 5))
    with pytest.raises(ValueError, match="below 0"):
        inversion.saliency(base, start=-torch.ones(3, 12))


def test_inference_mode_is_refused_and_sizes_do_not_matter_to_each_other(small_vgg, pictures):
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        GuidedInversion(small_vgg).base(torch.rand(1, 3, 16, 16))
    explainer = GuidedFeatureInversion(small_vgg)
    explainer.attribute(torch.rand(1, 3, 4, 4))
    assert torch.equal(explainer.attribute(pictures), GuidedFeatureInversion(small_vgg).attribute(pictures))
    with pytest.raises(ValueError, match="infinite"):
        explainer.attribute(pictures / 0)


def test_an_image_smaller_than_the_receptive_field_and_the_blur(small_vgg):
    maps = GuidedFeatureInversion(small_vgg, *LAYERS, sigma=11.0).attribute(torch.rand(2, 3, 8, 8))
    assert maps.shape == (2, 1, 8, 8)
    assert not maps.isnan().any()


# -- on photographs -----------------------------------------------------------------------------------


DOG, CAT = (72, 12, 166, 142), (44, 120, 202, 224)  # left, top, right, bottom; drawn by hand at 224 pixels
ANIMALS = {"bull mastiff": (243, DOG, CAT), "boxer": (242, DOG, CAT), "tiger cat": (282, CAT, DOG)}


def inside(box):
    left, top, right, bottom = box
    region = torch.zeros(1, 1, 224, 224)
    region[..., top:bottom, left:right] = 1
    return region


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_dog_and_cat_in_one_picture(test_data, name):
    """Step 2 with its default settings: the share of what lies on either animal that lies on the asked one."""
    cnn = make_classifier(name, weights=test_data / f"weights/{name}_imagenet.safetensors").eval()
    image = read_image(test_data / "test-images/cat_dog.png", (224, 224))[None].float() / 255
    inversion = GuidedInversion(folded(cnn.requires_grad_(False)) or cnn)
    base = inversion.base(image)
    saliency = inversion.saliency(base)
    for animal, (label, box, other) in ANIMALS.items():
        mask = inversion.discriminate(base, saliency, label).masks
        either = (inside(box) + inside(other)).clamp(max=1)
        share = ((mask * inside(box)).sum() / (mask * either).sum()).item()
        assert share > 0.7, (animal, share)
