"""A CNN of one's own in every form: the same maps as the plain one, or one clear sentence."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gan_lib
from gan_lib.classifiers import folded, randomised
from gan_lib.classifiers.forms import wrap
from gan_lib.core.outputs import probabilities
from gan_lib.explainers import make_explainer
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.metrics import class_probability, judge

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "image_size": 16}
SIGNED = ("saliency", "guided_backprop", "deep_lift", "grad_cam", "occlusion", "evidence_projection")
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """A small CNN with what it is asked to give."""

    def __init__(self, outputs: int = 3, give=None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.deep, self.fc = nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.Linear(8, outputs)
        self.last = nn.ReLU()
        self.give = give or (lambda logits: logits)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.last(self.deep(self.relu(self.conv(images))))
        return self.give(self.fc(hidden.mean((2, 3))))


def maps(cnn: nn.Module, method: str, target: int = 1) -> Tensor:
    return make_explainer(method, cnn).attribute(IMAGES, target)


# forms of a model ------------------------------------------------------------------------------------------


def compiled(net: nn.Module) -> nn.Module:
    return torch.compile(net, backend="eager")


def compiled_in_place(net: nn.Module) -> nn.Module:
    net.compile(backend="eager")
    return net


def partly_compiled(net: nn.Module) -> nn.Module:
    net.deep = torch.compile(net.deep, backend="eager")
    return net


FORMS = {
    "compiled": compiled,
    "compiled_in_place": compiled_in_place,
    "partly_compiled": partly_compiled,
    "data_parallel": nn.DataParallel,
    "compiled_data_parallel": lambda net: compiled(nn.DataParallel(net)),
    "train_mode": lambda net: net.train(),
    "frozen": lambda net: net.requires_grad_(False),
    "double": lambda net: net.double(),
}


@pytest.mark.parametrize("method", SIGNED)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_has_the_maps_of_the_plain_model(form, method):
    expected = maps(wrap(Net(), **PLAIN), method)
    assert expected.any()
    close = 1e-3 if form == "double" else 1e-5  # maps are scaled: rounding of a small loss is magnified
    made = maps(wrap(FORMS[form](Net()), **PLAIN), method)
    torch.testing.assert_close(made, expected, rtol=close, atol=close)


@pytest.mark.parametrize("form", ["compiled", "partly_compiled", "data_parallel"])
def test_a_form_shares_its_weights(form):
    net = Net()
    cnn = wrap(FORMS[form](net), **PLAIN)
    with torch.no_grad():
        net.fc.bias += 7.0
    torch.testing.assert_close(cnn(IMAGES), net(IMAGES).detach())


def test_a_model_that_is_compiled_stays_so():
    net = partly_compiled(Net())
    wrap(net, **PLAIN)
    assert hasattr(net.deep, "_orig_mod")


@pytest.mark.parametrize("number_format", [torch.float16, torch.bfloat16])
def test_half_precision_is_explained_in_float32(number_format):
    net = Net().to(number_format)
    with pytest.warns(UserWarning, match=f"Net is in {str(number_format)[6:]}: a copy in float32"):
        cnn = wrap(net, **PLAIN)
    assert next(net.parameters()).dtype == number_format
    plain = copy.deepcopy(net).float()
    for method in SIGNED:
        torch.testing.assert_close(maps(cnn, method), maps(wrap(plain, **PLAIN), method))


HIDES = "needs to see every nonlinearity, which a scripted, traced or exported CNN hides"


@pytest.mark.parametrize("form", ["traced", "scripted", "exported"])
def test_methods_on_a_model_in_one_piece(form):
    net = Net().eval()
    made = {
        "traced": lambda: torch.jit.trace(net, IMAGES),
        "scripted": lambda: torch.jit.script(
            nn.Sequential(net.conv, net.relu, nn.Flatten(), nn.Linear(2048, 3))
        ),
        "exported": lambda: torch.export.export(
            net, (IMAGES,), dynamic_shapes={"images": {0: torch.export.Dim.AUTO}}
        ).module(),
    }[form]()
    plain = wrap(net, **PLAIN)
    with warnings.catch_warnings(action="ignore"):
        cnn = wrap(made, **PLAIN)
        if form != "scripted":
            for method in ("saliency", "occlusion", "integrated_gradients"):
                torch.testing.assert_close(maps(cnn, method), maps(plain, method), rtol=1e-4, atol=1e-4)
        for method in ("guided_backprop", "deep_lift"):
            with pytest.raises(ValueError, match=HIDES):
                maps(cnn, method)
        with pytest.raises(ValueError, match="wrap the module"):
            maps(cnn, "grad_cam")
        with pytest.raises(ValueError, match="wrap the module"):
            FeatureMaker(cnn, (16, 16))


def dynamically_quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear}, dtype=torch.qint8)


def statically_quantised() -> nn.Module:
    """Every layer in int8, calibrated on the images."""
    net = torch.ao.quantization.QuantWrapper(Net()).eval()
    net.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = torch.ao.quantization.prepare(net)
    prepared(IMAGES)
    return torch.ao.quantization.convert(prepared)


@pytest.mark.parametrize("make", [dynamically_quantised, statically_quantised])
def test_quantised_layers_have_no_gradient_and_say_so(make):
    with warnings.catch_warnings(action="ignore"):
        made = make()
        cnn = wrap(made, **PLAIN)
    target = torch.tensor([0, 1, 2])
    asked = class_probability(cnn, IMAGES, target)
    torch.testing.assert_close(asked, made(IMAGES).softmax(1)[target, target])
    assert maps(cnn, "occlusion").any()
    for method in (
        "saliency",
        "guided_backprop",
        "deep_lift",
        "grad_cam",
        "smoothgrad",
        "evidence_projection",
    ):
        with pytest.raises(ValueError, match="have no gradient: its layers are quantised"):
            maps(cnn, method)


@pytest.mark.parametrize("method", ["saliency", "grad_cam", "deep_lift"])
def test_a_model_that_works_without_gradients_says_so(method):
    class Closed(Net):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(images)

    with pytest.raises(ValueError, match="have no gradient"):
        maps(wrap(Closed(), **PLAIN), method)


class Strict(Net):
    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 32
        return super().forward(images)


class Told(Net):
    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != 32:
            raise RuntimeError("I take 32 pixels")
        return super().forward(images)


@pytest.mark.parametrize(
    ("model", "given", "error", "said"),
    [
        (Strict(), {}, ValueError, r"Strict fails on pictures of 16 x 16 \(AssertionError: .*image_size"),
        (Told(), {}, ValueError, "RuntimeError: I take 32 pixels.*image_size"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {}, ValueError, r"scores \(B, K\), not \(B, 4, 14, 14\)"),
        (Net(7), {"class_names": ["a", "b", "c"]}, ValueError, "3 class names for 7 logits"),
        (Net(3), {"class_names": ["a", "b", "a"]}, ValueError, "twice: a"),
        (Net(1), {}, ValueError, "binary.*regression"),
        (Net(3), {"output": "softmax"}, ValueError, "one of .*'logits'"),
        (Net(3), {"output": "regression", "span": (0, 1)}, ValueError, "3 outputs"),
        (Net(1), {"output": "regression"}, ValueError, "has span="),
        (Net(1), {"output": "binary", "span": (0, 1)}, ValueError, "and nothing else, has span="),
        (Net(1), {"output": "regression", "span": (1, 0)}, ValueError, "lowest, highest"),
        (Net(), {"std": (0.0, 1.0, 1.0)}, ValueError, "std above 0"),
        (Net(), {"mean": (123.0, 117.0, 104.0)}, ValueError, "divide them by 255"),
        (Net(), {"mean": (0.5,)}, ValueError, "mean has three values"),
        (Net(), {"image_size": 0}, ValueError, "in pixels, not 0"),
        (Net(give=lambda logits: (logits, logits)), {}, ValueError, "Say select="),
        (Net(give=lambda logits: {"a": logits, "b": logits}), {"select": "c"}, KeyError, "no 'c'"),
        (Net(give=lambda logits: logits * torch.nan), {}, ValueError, "NaN or infinite values for pictures"),
        (Net(give=lambda logits: logits.sigmoid()), {}, ValueError, "multi_label_probabilities"),
        (Net(give=lambda logits: logits.mean()), {}, ValueError, "not a row each"),
        ("resnet18", {}, TypeError, "not str"),
        (Net(), {"mean": (torch.nan, 0, 0)}, ValueError, "finite"),
        (Net(), {"std": (255.0, 255.0, 255.0)}, ValueError, "divide them by 255"),
        (Net(), {"mean": 0.5}, ValueError, "mean has three values"),
        (Net(), {"image_size": (3, 16, 16)}, ValueError, "height and width"),
        (Net(), {"class_names": "cat"}, ValueError, "a list of names"),
        (Net(), {"class_names": {"a", "b", "c"}}, ValueError, "a list of names"),
        (Net(), {"class_names": {0: "a", 2: "b", 3: "c"}}, ValueError, "0 to 2"),
        (Net(1), {"output": "regression", "span": (0.0, torch.inf)}, ValueError, "has span="),
        (wrap(Net(), **PLAIN), {}, ValueError, "wrapped already"),
    ],
)
def test_what_is_refused(model, given, error, said):
    with pytest.raises(error, match=said):
        wrap(model, **PLAIN | given)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_named(value):
    net = Net()
    with torch.no_grad():
        net.fc.weight[0, 0] = value
    with pytest.raises(ValueError, match=r"weights of Net hold NaN or infinite values: fc\.weight"):
        wrap(net, **PLAIN)


# what outputs mean, downstream -----------------------------------------------------------------------------

HEADS = [
    ("logits", Net(3), {}, lambda z: z.softmax(1)),
    ("probabilities", Net(3, give=lambda z: z.softmax(1)), {}, lambda z: z.softmax(1)),
    ("multi_label", Net(3), {"output": "multi_label"}, lambda z: z.sigmoid()),
    (
        "multi_label_probabilities",
        Net(3, give=lambda z: z.sigmoid()),
        {"output": "multi_label_probabilities"},
        lambda z: z.sigmoid(),
    ),
    ("binary", Net(1), {"output": "binary"}, lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1)),
    (
        "binary_probability",
        Net(1, give=lambda z: z.sigmoid()),
        {"output": "binary_probability"},
        lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1),
    ),
    (
        "regression",
        Net(1, give=lambda z: 20 * z),
        {"output": "regression", "span": (-20.0, 20.0)},
        lambda z: torch.cat([(1 - z) / 2, (1 + z) / 2], 1).clamp(0, 1),
    ),
    ("dict", Net(3, give=lambda z: {"a": 2 * z, "b": z}), {"select": "b"}, lambda z: z.softmax(1)),
    ("tuple", Net(3, give=lambda z: (z, z[..., None])), {}, lambda z: z.softmax(1)),
]


@pytest.mark.parametrize(("name", "net", "given", "right"), HEADS, ids=[own[0] for own in HEADS])
def test_one_meaning_everywhere(name, net, given, right):
    """Probabilities of the explanation, of drops, of curves and of occlusion are those that the outputs mean."""
    cnn = wrap(net, **PLAIN | given)
    plain = copy.deepcopy(net)
    plain.give = lambda logits: logits
    with torch.no_grad():
        before, black = right(plain(IMAGES)), right(plain(torch.zeros_like(IMAGES)))
    found = gan_lib.explain(cnn, IMAGES, 1, "saliency")
    torch.testing.assert_close(found.probabilities, before[:, 1])
    torch.testing.assert_close(probabilities(cnn, cnn(IMAGES)).detach(), before)
    one = torch.ones(3, dtype=torch.long)
    torch.testing.assert_close(class_probability(cnn, IMAGES, one), before[:, 1])
    nothing = {("nothing", 0): torch.zeros(3, 1, 16, 16)}
    scores = judge(cnn, IMAGES, nothing, one, fills=["black"], steps=2).scores
    drop = 100 * (before - black).clamp(min=0)[:, 1] / before[:, 1]
    assert scores["drop_black"].tolist() == pytest.approx(drop.tolist(), abs=1e-3)
    assert folded(cnn) is not None or name in ("dict", "tuple")
    whole = make_explainer("occlusion", cnn, window=16, stride=16)
    torch.testing.assert_close(whole.probabilities(IMAGES).detach(), before)
    window = whole.raw(IMAGES, one)  # of the loss when all is grey
    with torch.no_grad():
        grey = right(plain(torch.full_like(IMAGES, 0.5)))
    torch.testing.assert_close(window[:, 0, 8, 8], (before - grey)[:, 1], rtol=1e-3, atol=1e-5)


def test_both_directions_of_one_output_have_opposite_gradients():
    cnn = wrap(Net(1), **PLAIN, output="binary", class_names=["cat"])
    assert cnn.class_names == ("not cat", "cat")
    saliency = gan_lib.Saliency(cnn)
    torch.testing.assert_close(saliency.attributions(IMAGES, 0), -saliency.attributions(IMAGES, 1))
    assert gan_lib.explain(cnn, IMAGES, "cat", "grad_cam").titles == ["cat"] * 3


@pytest.mark.parametrize("given", [{"output": "binary"}, {"output": "regression", "span": (0.0, 10.0)}])
def test_evidence_of_one_output_is_its_score_at_every_place(given):
    """Its mean over the places is the score, for global average pooling; the other class has its negative."""
    maker = FeatureMaker(wrap(Net(1), **PLAIN | given), (16, 16), layers=["backbone.conv"], fold=False)
    yes, no = (maker(IMAGES, label).activations[-1] for label in (1, 0))  # (B, 2, h, w)
    scores = maker.cnn(IMAGES).detach()
    torch.testing.assert_close(yes[:, 0].mean((1, 2)), scores[:, 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(no[:, 0], -yes[:, 0])
    torch.testing.assert_close(yes[:, 1], -F.softplus(-yes[:, 0]))  # log sigmoid


# folded copies ---------------------------------------------------------------------------------------------


class Norms(nn.Module):
    """Convolutions and normalisations that run in several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.how, self.stem = how, nn.Conv2d(3, 6, 3, padding=1)
        self.conv, self.fc = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 3)
        self.norm, self.other = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        for norm in (self.norm, self.other):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.2, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        if self.how == "tied block":  # twice the same convolution and normalisation
            x = F.relu(self.norm(self.conv(F.relu(self.norm(self.conv(x))))))
        elif self.how == "two norms":
            x = F.relu(self.norm(self.conv(x))) + F.relu(self.other(self.conv(x)))
        elif self.how == "two scales":
            small = F.avg_pool2d(x, 2)
            x = self.norm(self.conv(x)).mean((2, 3), keepdim=True) + self.conv(small).mean(
                (2, 3), keepdim=True
            )
        elif self.how == "one norm for two":
            x = self.norm(self.conv(x)) + self.norm(self.stem(images))
        elif self.how == "also used raw":
            made = self.conv(x)
            x = self.norm(made) + made
        else:
            x = F.relu(self.norm(self.conv(x)))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    "how", ["tied block", "two norms", "two scales", "one norm for two", "also used raw", "plain"]
)
def test_a_folded_copy_gives_the_scores_or_is_not_used(how):
    cnn = Norms(how).eval()
    copied = folded(cnn, (16, 16))
    assert (copied is None) == (how in ("tied block", "two norms", "two scales", "one norm for two"))
    expected = cnn(IMAGES).softmax(1)[:, 2].detach()
    if copied is not None:
        torch.testing.assert_close(copied(IMAGES), cnn(IMAGES), rtol=1e-4, atol=1e-5)
    scores = judge(cnn, IMAGES, {("all", 0): torch.ones(3, 1, 16, 16)}, torch.full((3,), 2), steps=2).curves
    assert scores["insertion"].iloc[-1] == pytest.approx(float(expected.mean()), abs=1e-5)


def test_a_copy_that_does_not_reproduce_the_cnn_is_not_used():
    class Moody(Norms):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + (
                3.0 if isinstance(images, Tensor) else 0.0
            )  # tracing sees a proxy

    assert folded(Moody("plain").eval(), (16, 16)) is None


def test_a_convolution_of_ones_own_stays_a_layer_in_the_folded_copy():
    class Padded(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            padded = F.pad(images, (1, 1, 1, 1))
            return F.conv2d(padded, self.weight, self.bias, self.stride)

    torch.manual_seed(0)
    cnn = nn.Sequential(
        Padded(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), Padded(6, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    cnn = nn.Sequential(cnn, nn.Flatten(), nn.Linear(6, 3)).eval()
    maker = FeatureMaker(cnn, (16, 16), count=1)
    assert maker.layers == ["0.3"]
    torch.testing.assert_close(maker(IMAGES).logits, cnn(IMAGES).detach(), rtol=1e-4, atol=1e-5)


# what works and what does not in a CNN's own code -------------------------------------------------------------


class Viewed(nn.Module):
    """As PyTorch's first tutorial has it: flattened by ``view``, which takes contiguous images alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 5), nn.Linear(6 * 6 * 6, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.max_pool2d(F.relu(self.conv(images)), 2)
        return self.fc(hidden.view(hidden.size(0), -1))


@pytest.mark.parametrize("method", [*SIGNED, "guided_grad_cam", "integrated_gradients", "feature_ablation"])
def test_a_cnn_that_flattens_by_view(method):
    class Reshaped(Viewed):
        def forward(self, images: Tensor) -> Tensor:
            return self.fc(F.max_pool2d(F.relu(self.conv(images)), 2).flatten(1))

    viewed, reshaped = wrap(Viewed(), **PLAIN), wrap(Reshaped(), **PLAIN)
    torch.testing.assert_close(maps(viewed, method), maps(reshaped, method), rtol=1e-4, atol=1e-4)
    gan_lib.compare(viewed, IMAGES, ["saliency", "edges"])
    torch.testing.assert_close(
        FeatureMaker(viewed, (16, 16), 1, fold=False)(IMAGES).logits, viewed(IMAGES).detach()
    )


def test_names_by_number_and_numbers_by_name():
    assert wrap(Net(), **PLAIN, class_names={2: "c", 0: "a", 1: "b"}).class_names == ("a", "b", "c")
    assert wrap(Net(), **PLAIN, class_names={"c": 2, "a": 0, "b": 1}).class_names == ("a", "b", "c")


@pytest.mark.parametrize("kind", ["convolution", "squeeze"])
def test_grad_cam_is_of_the_last_convolution_with_places(kind):
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.gate, self.fc = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            hidden = F.relu(self.deep(F.relu(self.first(images))))
            if kind == "squeeze":
                hidden = hidden * self.gate(hidden.mean((2, 3), keepdim=True)).sigmoid()
            return self.fc(hidden.mean((2, 3), keepdim=True)).flatten(1)

    cnn = wrap(Squeezed(), **PLAIN)
    explainer = make_explainer("grad_cam", cnn)
    found = explainer.attribute(IMAGES, 1)
    assert explainer.layer == "backbone.deep"
    assert found.flatten(1).std(1).gt(0).any()


def test_scores_of_a_traced_cnn():
    cnn = wrap(torch.jit.trace(Net().eval(), IMAGES), **PLAIN)
    plain = wrap(Net(), **PLAIN)
    made, expected = (gan_lib.explain(own, IMAGES, 1, "saliency").scores() for own in (cnn, plain))
    assert made["drop_black"].tolist() == pytest.approx(expected["drop_black"].tolist(), abs=1e-2)


def test_a_layer_that_is_called_output_says_nothing():
    class Named(Net):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Identity()

    found = make_explainer("saliency", Named().eval()).explain(IMAGES, 1)
    torch.testing.assert_close(found.probabilities, Net()(IMAGES).softmax(1)[:, 1].detach())


def test_modes_of_a_module_with_an_eval_of_its_own_are_left_alone():
    class Merging(nn.Linear):
        def train(self, mode: bool = True) -> nn.Module:
            self.weight.data += 1.0
            return super().train(mode)

    net = Net()
    net.fc = Merging(8, 3)
    before = net.fc.weight.detach().clone()
    make_explainer("saliency", net).explain(IMAGES, 1)
    assert torch.equal(net.fc.weight, before)
    assert net.training


def test_images_are_not_changed_by_a_cnn_that_works_in_place():
    class InPlace(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.sub_(0.5))

    given = IMAGES.clone()
    explainer = make_explainer("occlusion", InPlace().eval())
    explainer.attribute(given, 1)
    assert torch.equal(given, IMAGES)
    explainer.explain(given, 1)
    assert torch.equal(given, IMAGES)


def test_an_explainer_of_another_cnn_is_refused():
    cnn, other = wrap(Net(), **PLAIN), wrap(Net(7), **PLAIN)
    for ask in (
        lambda: gan_lib.explain(cnn, IMAGES, 1, gan_lib.Saliency(other)),
        lambda: gan_lib.compare(cnn, IMAGES, ["edges", gan_lib.Saliency(other)]),
    ):
        with pytest.raises(ValueError, match="Saliency explains another CNN"):
            ask()


def test_evidence_is_of_the_layer_that_gives_the_scores():
    class Auxiliary(Net):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(8, 3)

        def forward(self, images: Tensor) -> Tensor:
            hidden = self.last(self.deep(self.relu(self.conv(images)))).mean((2, 3))
            return {"main": self.fc(hidden), "other": self.other(hidden)}

    cnn = wrap(Auxiliary(), **PLAIN, select="main")
    maker = FeatureMaker(cnn, (16, 16), layers=["backbone.conv"])
    assert maker.head == "backbone.fc"
    torch.testing.assert_close(
        maker(IMAGES, 1).activations[-1][:, 0].mean((1, 2)), cnn(IMAGES)[:, 1].detach()
    )


@pytest.mark.parametrize("normalised", ["parametrised", "older", "plain"])
def test_weights_that_are_made_of_others_are_randomised_too(normalised):
    net = Net()
    if normalised == "parametrised":
        torch.nn.utils.parametrizations.weight_norm(net.deep)
    elif normalised == "older":
        with warnings.catch_warnings(action="ignore"):
            torch.nn.utils.weight_norm(net.deep)
    before = net.deep.weight.detach().clone()
    stages = list(randomised(net, IMAGES[:1], stages=9))
    assert [share for share, _ in stages] == pytest.approx([1 / 3, 2 / 3, 1.0]), "three layers, not nine"
    stages[-1][1](IMAGES)
    assert not torch.allclose(stages[-1][1].deep.weight, before)


# what is given ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES * 255, "outside"),
        ((IMAGES - 0.5) / 0.25, "outside"),
        (IMAGES.clone().fill_(torch.nan), "NaN"),
    ],
)
def test_images_out_of_range_are_refused(images, said):
    cnn = wrap(Net(), **PLAIN)
    for ask in (
        lambda: gan_lib.explain(cnn, images, method="saliency"),
        lambda: make_explainer("saliency", cnn).explain(images),
        lambda: gan_lib.compare(cnn, images, ["edges"]),
    ):
        with pytest.raises(ValueError, match=f"(?i){said}|0..1|\\[0, 1\\]"):
            ask()


GOOD = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("maps", "evidence", "said"),
    [
        (GOOD[..., :8], None, r"\(3, 1, 16, 8\), but for these images maps are \(3, 1, 16, 16\)"),
        (GOOD[:, 0], None, r"\(3, 16, 16\), but"),
        (GOOD.expand(-1, 3, -1, -1), None, r"\(3, 3, 16, 16\), but"),
        (GOOD.where(GOOD > 0.1, torch.nan), None, "NaN or infinite values in 3 of 3 maps"),
        (GOOD * 3, None, r"maps lie in \[0, 1\]"),
        (GOOD - 0.5, None, r"maps lie in \[0, 1\]"),
        (GOOD, GOOD[..., :8] > 0.5, "masks are"),
        (GOOD, (GOOD > 0.5)[:, 0], "masks are"),
        (GOOD, (GOOD > 0.5).float(), "boolean mask, not torch.float32"),
        (GOOD, (GOOD > 0.5).to(torch.uint8) * 255, "boolean mask, not torch.uint8"),
    ],
)
def test_maps_and_masks_of_another_kind_are_refused(maps, evidence, said):
    with pytest.raises(ValueError, match=said):
        judge(
            wrap(Net(), **PLAIN),
            IMAGES,
            {("m", 0): maps},
            torch.zeros(3, dtype=torch.long),
            evidence=evidence,
        )
