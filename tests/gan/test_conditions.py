"""Conditions: CGMA by hand, every other kind, one from outside, and what is stored of them."""

from __future__ import annotations

import pytest
import torch

from gan_lib.classifiers import make_classifier
from gan_lib.core.grad_cam import grad_cam
from gan_lib.core.maps import min_max
from gan_lib.core.runtime import make_fabric
from gan_lib.data import ImageSplit
from gan_lib.explainers import GANExplainer
from gan_lib.gan.conditions import (
    CONDITIONS,
    ConditionMaker,
    StoredConditions,
    compute_conditions,
    condition_maker,
    cumulative_average,
    linear_readout,
)
from gan_lib.gan.generators import Discriminator, DiscriminatorSizes, make_generator
from gan_lib.gan.training import TrainingOptions, train_supervised

TINY_LAYERS = ["features.0", "features.2", "features.5"]  # of the fixture tiny_net

KINDS = ["cgma", "published", "grad_cams", "last_grad_cam", "features", "planted/1"]
SIZES = {"width": 8, "condition_hidden": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 4}


def test_cumulative_average_by_hand():
    maps = torch.tensor([1.0, 0.0, 0.5, 0.1]).view(1, 4, 1, 1)
    assert cumulative_average(maps).flatten().tolist() == pytest.approx([1, 0.5, 0.5, 0.4])
    assert cumulative_average(maps[:, :0]).shape == (1, 0, 1, 1)


def test_readout_by_hand():
    """CGMA_3 = 0.5 and CGMA_5 = 0.6: layers 4 and 5 hold 5 * 0.6 - 3 * 0.5 = 1.5 together, 0.75 each."""
    averages = torch.tensor([0.9, 0.5, 0.6]).view(1, 3, 1, 1)
    assert linear_readout(averages, [1, 3, 5]).item() == pytest.approx(0.75)
    assert linear_readout(averages, [1, 3, 4]).item() == pytest.approx(0.9)
    assert linear_readout(averages.flip(1), [1, 3, 4]).item() == 1, "4 * 0.9 - 3 * 0.5 is more than 1"
    for given, positions in ((averages[:, :1], [1]), (averages, [1, 3])):
        with pytest.raises(ValueError, match="two CGMAs or more"):
            linear_readout(given, positions)


def test_conditions_by_hand(tiny_net, images, monkeypatch):
    """Layers 1 to 5 with Grad-CAMs of 0.1, 0.2, 0.6, 0.3, 0.8: positions 1 and 4, or 1, 3 and 5 with the target."""
    values = torch.tensor([0.1, 0.2, 0.6, 0.3, 0.8])
    maker = ConditionMaker(tiny_net, (16, 16), 2, layers=list("abcde"))
    leaking = ConditionMaker(tiny_net, (16, 16), 3, leak_free=False, layers=list("abcde"))
    assert (maker.positions, leaking.positions) == ([1, 4], [1, 3, 5])

    class Five:
        def __init__(self, logits):
            self.target, self.logits = logits.argmax(1), logits

        def maps(self, size):
            return values.view(1, 5, 1, 1).expand(3, 5, *size)

    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    monkeypatch.setattr("gan_lib.gan.conditions.cumulative.grad_cam", lambda *_: Five(logits))
    made = maker(images)
    assert made.cgma[0, :, 3, 3].tolist() == pytest.approx([0.1, 1.2 / 4])
    assert made.grad_cams[0, :, 3, 3].tolist() == pytest.approx([0.1, 0.3])
    assert made.target.unique().tolist() == pytest.approx([0.8])
    assert made.explained.tolist() == [1, 0, 0]
    odds = torch.tensor([1.0, 2.0, 0.0]).exp()
    assert torch.allclose(made.probability, odds / (1 + odds))
    assert leaking(images).cgma[2, :, 3, 3].tolist() == pytest.approx([0.1, 0.3, 0.4])


def test_cumulative_average_is_the_mean_of_the_first_maps():
    maps = torch.rand(2, 5, 4, 4)
    averages = cumulative_average(maps)
    for k in range(5):
        assert torch.allclose(averages[:, k], maps[:, : k + 1].mean(1), atol=1e-6)


def test_published_conditions_contain_the_target_and_leak_free_ones_do_not(tiny_net, images):
    published = ConditionMaker(tiny_net, (16, 16), 3, leak_free=False, layers=TINY_LAYERS)
    made = published(images)
    assert published.positions == [1, 2, 3]
    assert torch.allclose(linear_readout(made.cgma, published.positions), made.target, atol=1e-6)

    leak_free = ConditionMaker(tiny_net, (16, 16), 2, layers=TINY_LAYERS)
    free = leak_free(images)
    assert torch.equal(free.target, made.target)
    maps = grad_cam(tiny_net, images, TINY_LAYERS).maps((16, 16))
    assert torch.allclose(linear_readout(free.cgma, leak_free.positions), maps[:, 1:2], atol=1e-6)


def test_readout_over_a_gap_is_the_mean_of_the_maps_in_it():
    maps = torch.rand(2, 9, 4, 4)
    averages = cumulative_average(maps)[:, [2, 5, 8]]
    assert torch.allclose(linear_readout(averages, [3, 6, 9])[:, 0], maps[:, 6:].mean(1), atol=1e-5)


def test_default_layers_explain_the_prediction(images):
    cnn = make_classifier("slim_resnet", ["a", "b", "c"]).eval()
    pictures = torch.rand(2, 3, 32, 32)
    maker = ConditionMaker(cnn, (32, 32))
    made = maker(pictures)
    assert made.cgma.shape == made.grad_cams.shape == (2, 8, 32, 32)
    assert maker.layers[-1] == "backbone.layer3.1.conv2"
    probabilities = cnn(pictures).softmax(1)
    assert torch.equal(made.explained, probabilities.argmax(1))
    assert torch.allclose(made.probability, probabilities.max(1).values)
    assert maker(pictures, 1).explained.tolist() == [1, 1]
    for leak_free, count, setting in ((True, 12, "before the target's layer"), (False, 13, "in all")):
        with pytest.warns(UserWarning, match=f"{count} conditions instead of 40: .* {setting}"):
            few = ConditionMaker(cnn, (32, 32), 40, leak_free=leak_free)
        assert few.positions == list(range(1, count + 1))
    with pytest.raises(ValueError, match="0 positions"):
        ConditionMaker(cnn, (32, 32), 0)
    with pytest.raises(ValueError, match="there are 0"):
        ConditionMaker(cnn, (32, 32), 1, layers=[])


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_and_one_condition(tiny_net, images, kind):
    maker = condition_maker(kind.replace("1", "0"), tiny_net, (16, 16), 1)
    assert maker.count == 1
    assert maker(images[:0]).cgma.shape == (0, 1, 16, 16)
    assert maker(images[:1]).cgma.isfinite().all()


# -- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_says_how_it_is_made_again(tiny_net, images, kind):
    maker = condition_maker(kind, tiny_net, (16, 16), 2, layers=TINY_LAYERS)
    settings = maker.settings()
    assert settings["layers"] == TINY_LAYERS
    assert settings["count"] == maker.count
    again = condition_maker(cnn=tiny_net, image_size=(16, 16), **settings)
    assert type(again) is type(maker)
    assert again.settings() == settings
    assert torch.equal(again(images).cgma, maker(images).cgma)


def test_no_two_kinds_are_the_same(tiny_net, images):
    kinds = [kind for kind in KINDS if kind != "last_grad_cam"] + ["planted/0"]
    makers = [condition_maker(kind, tiny_net, (16, 16), 2) for kind in kinds]
    made = [maker(images).cgma for maker in makers]
    for i in range(len(made)):
        for j in range(i):
            assert not torch.equal(made[i], made[j]), (kinds[i], kinds[j])
            assert makers[i].settings() != makers[j].settings()


@pytest.mark.parametrize("kind", ["grad_cams", "last_grad_cam", "features", "planted"])
def test_alternative_conditions(tiny_net, images, kind):
    reference = ConditionMaker(tiny_net, (16, 16), 2)
    maker = condition_maker(kind, tiny_net, (16, 16), 2)
    made, plain = maker(images), reference(images)
    assert torch.equal(made.target, plain.target)
    assert torch.equal(made.grad_cams, plain.grad_cams[:, -maker.count :])
    assert made.cgma.shape == (3, 1 if kind == "last_grad_cam" else 2, 16, 16)
    assert made.cgma.min() >= 0
    assert made.cgma.max() <= 1
    assert maker.kind.startswith(kind)
    if kind == "grad_cams":
        assert torch.equal(made.cgma, plain.grad_cams)
    if kind == "last_grad_cam":
        assert torch.equal(made.cgma, plain.grad_cams[:, -1:])
    if kind == "features":
        activation = tiny_net.features[:1](images).relu().mean(1, keepdim=True)
        assert torch.allclose(made.cgma[:, :1], min_max(activation), atol=1e-5)
        assert torch.equal(maker(images, 1).cgma, maker(images, 2).cgma), "whatever the class"
        assert not torch.equal(made.cgma, plain.grad_cams)
    if kind == "planted":
        assert torch.equal(made.cgma[:, :1], plain.target)
        assert torch.equal(maker(images).cgma, made.cgma)
        assert not torch.equal(made.cgma[0, 1], made.cgma[1, 1])
        assert torch.equal(maker(images[1:2]).cgma[0, 1], made.cgma[1, 1])
        assert torch.equal(
            condition_maker("planted/1", tiny_net, (16, 16), 2)(images).cgma[:, 1:], plain.target
        )


def test_kinds_that_there_are_not(tiny_net):
    with pytest.raises(KeyError, match="grad_cams"):
        condition_maker("grad_cam", tiny_net, (16, 16), 2)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        condition_maker("planted/2", tiny_net, (16, 16), 2)
    with pytest.raises(ValueError, match="name/place"):
        condition_maker("planted/first", tiny_net, (16, 16), 2)
    with pytest.raises(TypeError, match="place"):
        condition_maker("cgma/1", tiny_net, (16, 16), 2)


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(CONDITIONS, "_things", dict(CONDITIONS._things))


def test_conditions_from_outside_train_a_generator(registered, tiny_net, scenes, tmp_path):
    @CONDITIONS.register("edges")
    class Edges(ConditionMaker):
        """Vertical and horizontal edges of the image."""

        def conditions(self, images, maps, explained):
            grey = images.mean(1, keepdim=True)
            return torch.cat([min_max((grey - grey.roll(1, axis)).abs()) for axis in (2, 3)], dim=1)

    maker = condition_maker("edges", tiny_net, (32, 32), 2)
    stored = compute_conditions(maker, scenes.train, tmp_path / "conditions")
    generator = make_generator("lsft", conditions=maker.count, **SIZES)
    before = generator.stem.weight.clone()
    options = TrainingOptions(max_steps=2, batch_size=8, ema_decay=0.0)
    critic, fabric = Discriminator(DiscriminatorSizes(4, 4)), make_fabric("cpu")
    log = train_supervised(generator, critic, scenes.train, stored, tmp_path / "run", options, fabric)
    assert len(log) == 2
    assert not torch.equal(generator.stem.weight, before)

    images = torch.rand(2, 3, 32, 32)
    explainer = GANExplainer(maker, generator)
    explainer.save(tmp_path / "explainer")
    again = GANExplainer.from_pretrained(tmp_path / "explainer", tiny_net)
    assert type(again.maker) is Edges
    assert torch.allclose(again.attribute(images), explainer.attribute(images), atol=1e-6)
    with pytest.raises(ValueError, match=r"edges makes conditions \(2, 2, 32, 32\), not \(2, 1, 32, 32\)"):
        condition_maker("edges", tiny_net, (32, 32), 1)(images)


def test_conditions_that_nobody_registered_are_not_mistaken(tiny_net):
    class Mine(ConditionMaker):
        pass

    settings = Mine(tiny_net, (16, 16), 2).settings()
    assert settings["conditions"] == "Mine"
    with pytest.raises(KeyError, match="Mine"):
        condition_maker(cnn=tiny_net, image_size=(16, 16), **settings)


# -- on disk -------------------------------------------------------------------------------------


def test_stored_conditions_are_the_computed_ones(tmp_path, scenes):
    cnn = make_classifier("slim_vgg", scenes.class_names)
    maker = ConditionMaker(cnn, scenes.test.image_size)
    stored = compute_conditions(maker, scenes.test, tmp_path, batch_size=7)
    assert len(stored) == 20
    assert stored.count == 8
    rows = torch.tensor([19, 2, 7])
    read, made = StoredConditions(tmp_path)[rows], maker(scenes.test.batch(rows).images)
    for name in ("cgma", "grad_cams", "target"):
        assert getattr(read, name).dtype == torch.float32
        assert (getattr(read, name) - getattr(made, name)).abs().max() <= 2**-12 + 1e-5, name
    assert torch.equal(read.explained, made.explained)
    assert torch.allclose(read.probability, made.probability, atol=1e-5)


def test_one_image_and_none(tmp_path, scenes, tiny_net):
    maker = ConditionMaker(tiny_net, (32, 32), 1)
    stored = compute_conditions(maker, scenes.test.subset([4]), tmp_path / "one")
    assert stored[torch.tensor([0, 0])].cgma.shape == (2, 1, 32, 32)
    assert stored[torch.tensor([], dtype=torch.int64)].cgma.shape == (0, 1, 32, 32)
    joined = StoredConditions(*stored.folders, *stored.folders)
    assert joined[torch.tensor([], dtype=torch.int64)].target.shape == (0, 1, 32, 32)
    assert len(joined) == len(joined[:].target) == 2
    with pytest.raises(ValueError, match="images must be at least 1"):
        compute_conditions(maker, scenes.test.subset(torch.arange(0)), tmp_path / "none")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        compute_conditions(maker, scenes.test, tmp_path / "none", batch_size=0)


class Half(torch.nn.Module):
    """A CNN whose Grad-CAM is empty for dark images: the class is predicted from what ReLU leaves."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = torch.nn.Conv2d(3, 1, 1, bias=True), torch.nn.ReLU()
        self.head = torch.nn.Linear(1, 2)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.conv.bias.fill_(-1.5)  # above 0 where the mean of the colours is over a half
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.head.bias.copy_(torch.tensor([0.0, 0.1]))

    def forward(self, images):
        return self.head(self.relu(self.conv(images)).mean((2, 3)))


def test_which_images_have_a_target_and_those_alone(tmp_path):
    """Bright images are class 0 and have one; dark ones are class 1 by the bias alone, and their map is empty."""
    pixels = torch.full((5, 3, 32, 32), 20, dtype=torch.uint8)
    pixels[[1, 2, 4]] = 250
    pixels[:, :, :4] = 10  # a constant map would be empty as well
    split = ImageSplit(pixels, torch.zeros(5).long())
    stored = compute_conditions(ConditionMaker(Half(), (32, 32), 1, leak_free=False), split, tmp_path)
    assert stored.with_target().tolist() == [False, True, True, False, True]
    rows = stored.with_target().nonzero()[:, 0]
    few = stored.subset(rows)
    assert len(few) == 3
    assert torch.equal(few[:].target, stored[rows].target)
    assert torch.equal(few[torch.tensor([2, 0])].cgma, stored[torch.tensor([4, 1])].cgma)
    assert few.with_target().all()
    assert torch.equal(few.subset(torch.tensor([1]))[:].target, stored[torch.tensor([2])].target)
    assert few.fingerprint != stored.fingerprint != stored.subset(torch.tensor([0, 1])).fingerprint
    whole = stored.subset(torch.arange(5))
    assert whole is stored, "all of them: the same address"
    joined = StoredConditions(tmp_path, tmp_path)
    assert joined.with_target().tolist() == [False, True, True, False, True] * 2
