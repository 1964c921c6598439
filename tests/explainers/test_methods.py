"""Every explainer by name, on the families of CNNs that people use."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torchvision
from captum.attr import (
    DeepLift,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import nn

from gan_lib.explainers import (
    FeatureAblation,
    GradCAM,
    GradientExplainer,
    GradientShap,
    SmoothGrad,
    make_explainer,
    methods_of,
)
from gan_lib.explainers.rules import DeepLiftRule
from gan_lib.inversion import STEP_1, STEP_2

CHEAP = {
    "integrated_gradients": {"steps": 2},
    "smoothgrad": {"samples": 2},
    "gradient_shap": {"samples": 2},
    "expected_gradients": {"samples": 2},
    "score_cam": {"channels": 4},
    "rise": {"masks": 8},
    "occlusion": {"window": 32},
    "feature_ablation": {"parts": "grid", "count": 2},
    "guided_feature_inversion": {
        "first": replace(STEP_1, iterations=2),
        "second": replace(STEP_2, iterations=2),
    },
}
FAMILIES = {
    "vgg11": 32,
    "resnet18": 32,
    "densenet121": 32,
    "mobilenet_v2": 32,
    "efficientnet_b0": 32,
    "squeezenet1_0": 32,
    "convnext_tiny": 32,
    "inception_v3": 75,
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """A torchvision CNN with random weights, frozen, and images that it can take."""
    torch.manual_seed(0)
    rest = {"init_weights": False} if request.param == "inception_v3" else {}
    cnn = torchvision.models.get_model(request.param, weights=None, num_classes=5, **rest)
    side = FAMILIES[request.param]
    images = torch.rand(2, 3, side, side)
    # Statistics that fit, without which random weights let the activations die out.
    normalisations = [module for module in cnn.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for module in normalisations:
        module.train().momentum = None
    with torch.no_grad():
        cnn(images)
    return cnn.eval().requires_grad_(False), images


NO_RULE = ("densenet121", "efficientnet_b0", "convnext_tiny")  # LRP has none for some part


def state(cnn):
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
        for m in cnn.modules()
    ]
    return hooks, [m.training for m in cnn.modules()], [type(m) for m in cnn.modules()]


@pytest.mark.parametrize("name", methods_of("baseline", "control"))
def test_contract(request, family, name):
    cnn, images = family
    if name == "lrp" and request.node.callspec.params["family"] in NO_RULE:
        with pytest.raises(ValueError, match=rf"LRP has no rule for .* in {type(cnn).__name__}"):
            make_explainer(name, cnn).attribute(images)
        return
    before, weights = state(cnn), [tensor.clone() for tensor in cnn.state_dict().values()]
    explainer = make_explainer(name, cnn, **CHEAP.get(name, {}))
    with torch.no_grad():
        maps = explainer.attribute(images, target=torch.tensor([1, 3]))
    assert maps.shape == (2, 1, *images.shape[-2:])
    assert maps.dtype == torch.float32
    assert not maps.isnan().any()
    assert maps.min() >= 0
    peaks = maps.amax((1, 2, 3))
    assert torch.allclose(peaks, (peaks > 0).float(), atol=1e-2)  # 1, or a map of zeros
    if "cam" not in name and name not in (
        "occlusion",
        "feature_ablation",
        "rise",
        "lrp",
    ):  # which may find nothing
        assert peaks.min() > 0
    assert not maps.requires_grad
    assert state(cnn) == before
    assert all(torch.equal(a, b) for a, b in zip(weights, cnn.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in cnn.parameters())


@pytest.mark.parametrize("name", methods_of("baseline", "control"))
def test_in_corners(tiny_net, images, name):
    """Train mode, trainable weights, one image at a time, bfloat16, constant images, no image, NaN."""
    small = CHEAP.get(name, {}) | ({"window": 8} if name == "occlusion" else {})
    explainer = make_explainer(name, tiny_net.train(), **small)
    maps = explainer.attribute(images, target=2)
    assert tiny_net.training
    assert all(parameter.grad is None for parameter in tiny_net.parameters())
    single = explainer.attribute(images, target=2, batch_size=1)
    assert torch.allclose(single, maps, atol=1e-5)
    assert torch.allclose(explainer.attribute(images.flip(0), target=2).flip(0), maps, atol=1e-5)
    assert torch.equal(explainer.attribute(images, target=[2, 2, 2]), maps)
    constant = explainer.attribute(torch.full((1, 3, 16, 16), 0.5))
    assert not constant.isnan().any()
    assert explainer.attribute(images[:0]).shape == (0, 1, 16, 16)
    broken = images.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        explainer.attribute(broken)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        explainer.attribute(images[0])
    with pytest.raises(TypeError, match="floating-point"):
        explainer.attribute((255 * images).byte())
    with pytest.raises(ValueError, match="target"):
        explainer.attribute(images, target=[0, 1])
    if name not in methods_of("control"):  # which are not asked about any class
        with pytest.raises(IndexError, match=r"outside 0..3"):
            explainer.attribute(images, target=4)
    with torch.inference_mode():
        made_there = torch.rand(1, 3, 16, 16)
        if explainer.needs_gradients:
            with pytest.raises(RuntimeError, match="inference_mode"):
                explainer.attribute(made_there)
    assert explainer.attribute(made_there).shape == (1, 1, 16, 16)
    low = make_explainer(name, copy.deepcopy(tiny_net).bfloat16(), **small)
    coarse = low.attribute(images, target=2)
    assert coarse.dtype == torch.float32
    # Some are seeded by the pixels' values, which bfloat16 rounds; differences of probabilities lie below
    # its resolution here.
    by_pixels = ("random", "smoothgrad", "gradient_shap")
    if name not in (*by_pixels, "occlusion", "feature_ablation", "score_cam"):
        similarity = torch.cosine_similarity(coarse.flatten(1), maps.flatten(1), dim=1)
        assert similarity[maps.amax((1, 2, 3)) > 0].min() > 0.9


# -- against Captum, and where Captum alone is wrong -------------------------------------------------


@pytest.fixture
def plain():
    """A CNN that Captum takes as it is: every module once, nothing in place, no pooling behind a ReLU."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.mark.parametrize(
    ("name", "captum", "options"),
    [
        ("saliency", Saliency, {"abs": False}),
        ("input_x_gradient", InputXGradient, {}),
        ("integrated_gradients", IntegratedGradients, {"n_steps": 32}),
        ("deep_lift", DeepLift, {}),
        ("guided_backprop", GuidedBackprop, {}),
    ],
)
def test_gradient_methods_are_captums(plain, images, name, captum, options):
    explainer = make_explainer(name, plain)
    assert isinstance(explainer, GradientExplainer)
    expected = captum(plain).attribute(images.clone().requires_grad_(), target=1, **options).float()
    assert torch.allclose(explainer.attributions(images, 1), expected, atol=1e-6)


def test_guided_grad_cam_is_captums(plain, images):
    explainer = make_explainer("guided_grad_cam", plain, layer="3")
    expected = GuidedGradCam(plain, plain[3]).attribute(
        images.clone().requires_grad_(), target=1, interpolate_mode="bilinear"
    )
    assert isinstance(explainer, GradientExplainer)
    assert torch.allclose(explainer.attributions(images, 1), expected, atol=1e-6)


def test_occlusion_is_captums(plain, images):
    def probabilities(pictures):
        return plain(pictures).softmax(1)

    expected = Occlusion(probabilities).attribute(
        images, (3, 4, 4), strides=(3, 2, 2), baselines=0.5, target=1
    )
    expected = expected.mean(1, keepdim=True).relu()
    ours = make_explainer("occlusion", plain, window=4, stride=2).attribute(images, target=1)
    low, high = expected.amin((1, 2, 3), keepdim=True), expected.amax((1, 2, 3), keepdim=True)
    assert torch.allclose(ours, (expected - low) / (high - low), atol=1e-4)


def test_deep_lift_adds_up_where_captum_does_not(family):
    """Attributions sum to the difference of the logits: reused, in-place and functional ReLUs, pooling."""
    cnn, images = family
    if any(isinstance(module, nn.LayerNorm) for module in cnn.modules()):
        pytest.skip("layer normalisation is not element-wise: no rule of DeepLift's holds for it")
    cnn, images = copy.deepcopy(cnn).double(), images.double()
    made = make_explainer("deep_lift", cnn).attributions(images, 1)
    change = (cnn(images) - cnn(torch.zeros_like(images)))[:, 1]
    products = any("SqueezeExcitation" in type(module).__name__ for module in cnn.modules())
    if not products:  # a product of two activations has no rule either
        assert torch.allclose(made.sum((1, 2, 3)), change, atol=1e-6 * change.abs().max() + 1e-12)


def test_guided_backprop_sees_every_relu(images):
    """One module, run twice and in place: Captum alone passes negative gradients or fails."""

    class Reused(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, pictures):
            return self.head(self.relu(self.second(self.relu(self.first(pictures)))).mean((2, 3)))

    torch.manual_seed(2)
    reused = Reused().eval()
    separate = nn.Sequential(
        reused.first, nn.ReLU(), reused.second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), reused.head
    )
    expected = GuidedBackprop(separate).attribute(images.clone().requires_grad_(), target=1)
    made = make_explainer("guided_backprop", reused).attributions(images, 1)
    assert torch.allclose(made, expected, atol=1e-6)


def test_one_relu_module_under_three_names(images):
    """``Sequential`` runs it three times."""
    torch.manual_seed(3)
    relu = nn.ReLU(inplace=True)
    layers = [nn.Conv2d(3, 8, 3), relu, nn.Conv2d(8, 8, 3), relu, nn.Conv2d(8, 8, 3), relu]
    rest = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    shared = nn.Sequential(*layers, *rest).eval()
    separate = nn.Sequential(*(nn.ReLU() if layer is relu else layer for layer in layers), *rest).eval()
    expected = GuidedBackprop(separate).attribute(images.clone().requires_grad_(), target=1)
    assert torch.allclose(
        make_explainer("guided_backprop", shared).attributions(images, 1), expected, atol=1e-6
    )


class ByChange(nn.Module):
    """Goes on with an activation that a nonlinearity has changed in place, and not with what it returned."""

    def __init__(self, change):
        super().__init__()
        self.conv, self.head, self.change = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), change

    def forward(self, pictures):
        activation = self.conv(pictures)
        self.change(activation)
        return self.head(activation.mean((2, 3)))


CHANGES = {
    "relu_": lambda x: x.relu_(),
    "relu": lambda x: nn.functional.relu(x, inplace=True),
    "silu": lambda x: nn.functional.silu(x, inplace=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_activations_that_change_in_place(images, change):
    torch.manual_seed(4)
    changed = ByChange(CHANGES[change]).eval()
    plain = [changed.conv, nn.SiLU() if change == "silu" else nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    plain = nn.Sequential(*plain, nn.Flatten(), changed.head).eval()
    for name in ("deep_lift", "guided_backprop"):
        made, expected = (make_explainer(name, cnn).attributions(images, 1) for cnn in (changed, plain))
        assert torch.allclose(made, expected, atol=1e-7)
        assert expected.abs().max() > 0


def test_the_rescale_rule_by_hand():
    """One pixel of 3 before a ReLU at 1: the baseline gives 0, the image 2, so that the multiplier is 2 / 3."""

    class Net(nn.Module):
        def forward(self, pictures):
            return (pictures.sum((1, 2, 3)) - 1).relu()[:, None]

    picture = torch.zeros(1, 3, 2, 2)
    picture[0, 1, 0, 1] = 3.0
    made = DeepLiftRule(Net()).attribute(picture, torch.tensor([0]))
    assert made.sum().item() == pytest.approx(2.0)
    assert made[0, 1, 0, 1].item() == pytest.approx(2.0)
    white = DeepLiftRule(Net(), baseline=1.0).attribute(
        picture, torch.tensor([0])
    )  # 12 - 1 -> 11; 3 - 1 -> 2
    assert white.sum().item() == pytest.approx(2.0 - 11.0)


def test_relu6_is_a_relu_to_guided_back_propagation():
    """A negative gradient passes neither; a plain function passes it."""
    picture = torch.full((1, 3, 1, 1), 0.5)
    for nonlinearity, passes in ((nn.ReLU6(), False), (nn.functional.relu6, False), (nn.Hardtanh(), True)):

        class Net(nn.Module):
            def __init__(self, apply):
                super().__init__()
                self.scale, self.apply_ = nn.Parameter(torch.ones(1)), apply

            def forward(self, pictures):
                return -self.scale * self.apply_(pictures).mean((2, 3))

        made = make_explainer("guided_backprop", Net(nonlinearity)).attributions(picture, 1)
        assert (made[0, 1] != 0).item() is passes


def test_a_map_is_what_a_pixel_matters_in_all_colours():
    """logit = 3 red(0, 0) - 3 green(0, 0) + 2 blue(0, 1) - 6 red(1, 0): 6, 2 and 6 of 6; signs do not cancel."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.three = nn.Parameter(torch.tensor(3.0))

        def forward(self, x):
            first = self.three * (x[:, 0, 0, 0] - x[:, 1, 0, 0])
            return (first + 2 * x[:, 2, 0, 1] - 6 * x[:, 0, 1, 0])[:, None]

    picture = torch.full((1, 3, 2, 2), 0.5)
    maps = make_explainer("saliency", Net()).attribute(picture)
    assert maps.flatten().tolist() == pytest.approx([1.0, 2 / 6, 1.0, 0.0])
    picture[0, 0, 1, 0] = 0.1
    maps = make_explainer("input_x_gradient", Net()).attribute(picture)  # 3, 1 and 0.6
    assert maps.flatten().tolist() == pytest.approx([1.0, 1 / 3, 0.2, 0.0])


def test_parts_of_the_image_by_hand(colour_net):
    """Cells of a grid become grey; what helps the class has no evidence against it."""
    picture = torch.zeros(1, 3, 4, 6)
    picture[:, :2, :2, 3:] = 1.0  # the upper right cell is yellow
    ablation = FeatureAblation(colour_net, parts="grid", count=2)
    assert ablation.masks(picture)[0, 0].tolist() == 2 * [[0] * 3 + [1] * 3] + 2 * [[2] * 3 + [3] * 3]
    maps = ablation.attribute(picture, target=0)
    assert maps[0, 0, 0, 3:].tolist() == [1, 1, 1]
    blue = ablation.attribute(picture, target=2)  # less yellow helps blue, grey adds to all alike
    assert not blue.any()


# -- names, nesting, transformers --------------------------------------------------------------------


def test_unknown_names_list_near_misses(tiny_net):
    with pytest.raises(KeyError, match="integrated_gradients"):
        make_explainer("integrated-gradient", tiny_net)
    with pytest.raises(KeyError, match="unknown method 'tea leaves'; there are saliency"):
        make_explainer("tea leaves", tiny_net)
    with pytest.raises(ValueError, match="which folder"):
        make_explainer("contrastive-lsft", tiny_net)
    with pytest.raises(KeyError, match=r"did you mean 'features.5'"):
        make_explainer("grad_cam", tiny_net, layer="feature.5").attribute(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="grid"):
        FeatureAblation(tiny_net, parts="hexagons")


def test_captums_noise_tunnel_around_ours(tiny_net, images):
    explainer = make_explainer("grad_cam", tiny_net)
    torch.manual_seed(0)
    made = NoiseTunnel(explainer).attribute(images, nt_samples=3, stdevs=0.05, target=2)
    assert made.shape == (3, 1, 16, 16)
    assert not torch.allclose(made, explainer.attribute(images, target=2))


def test_smoothgrad_and_gradient_shap_leave_the_global_generators_alone(tiny_net, images):
    for name in ("smoothgrad", "gradient_shap"):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        explainer = make_explainer(name, tiny_net)
        first = explainer.attribute(images)
        assert torch.equal(torch.rand(3), expected)
        assert torch.equal(explainer.attribute(images), first)


class Squares(torch.nn.Module):
    """Logits (B, 2): the mean over the pixels of 3 x^2, and of 4 x."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, images):
        both = torch.stack([images.square(), images], 1)
        return self.scale * both.mean((2, 3, 4))


def draws(images, seed, samples):
    """Per image, of each copy: noise, which baseline, how far from it."""
    for image in images:
        total = (255 * image.double()).round().sum().long().item()
        drawn = torch.Generator().manual_seed(1_000_003 * total + seed)
        yield [
            (
                torch.randn(3, 4, 4, generator=drawn),
                torch.randint(3, (1, 1, 1), generator=drawn) / 2,
                torch.rand(1, 1, 1, generator=drawn),
            )
            for _ in range(samples)
        ]


def test_smoothgrad_by_hand():
    images = torch.rand(2, 3, 4, 4)
    made = SmoothGrad(Squares(), samples=3, deviation=0.2, seed=7).attributions(images, [0, 1])
    total = (255 * images[0].double()).round().sum().long().item()
    drawn = torch.Generator().manual_seed(1_000_003 * total + 7)
    copies = [images[0] + 0.2 * torch.randn(3, 4, 4, generator=drawn) for _ in range(3)]
    expected = torch.stack([6 * copy / 48 for copy in copies]).mean(0)  # d 3 x^2 / dx of 48 pixels
    torch.testing.assert_close(made[0], expected)
    torch.testing.assert_close(made[1], torch.full((3, 4, 4), 4 / 48))


def test_gradient_shap_by_hand():
    images = torch.rand(2, 3, 4, 4)
    made = GradientShap(Squares(), samples=4, deviation=0.1, seed=2).attributions(images, 0)
    for image, own, copies in zip(images, made, draws(images, 2, 4), strict=True):
        parts = []
        for noise, baseline, share in copies:
            noisy = image + 0.1 * noise
            point = baseline + share * (noisy - baseline)
            parts.append((noisy - baseline) * 6 * point / 48)
        torch.testing.assert_close(own, torch.stack(parts).mean(0))
    with pytest.raises(ValueError, match="samples"):
        GradientShap(Squares(), samples=0)


def test_layers_without_places_are_refused(tiny_net, images):
    with pytest.raises(ValueError, match=r"not \(B, C, H, W\)"):
        GradCAM(tiny_net, "head").attribute(images)
