"""CNNs drawn at random: the same by number, of every family, and as good as any other to the library."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_lib.classifiers import FitOptions, fit, is_small, load_classifier, make_classifier, save_classifier
from gan_lib.classifiers.varied import FAMILIES, HEADS, varied
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import EvidenceMaker

NAMES = ["one", "two", "three"]


def shapes(cnn):
    return [tuple(own.shape) for own in cnn.state_dict().values()]


def test_a_number_is_a_cnn():
    assert shapes(varied("varied_7", 3)) == shapes(varied("varied_7", 3))
    every = {str(shapes(varied(f"varied_{number}", 3))) for number in range(40)}
    assert len(every) == 40


def test_the_weights_follow_from_the_seed():
    first, again, other = (make_classifier("varied_3", NAMES, seed=seed) for seed in (1, 1, 2))
    states = [own.state_dict() for own in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_all_families_heads_and_activations_are_there():
    """What is drawn for 60 numbers is every kind of head, with at least five activations and both norms."""
    drawn = [varied(f"varied_{number}", 3) for number in range(60)]
    heads = {tuple(type(own).__name__ for own in cnn[1]) for cnn in drawn}
    assert len(heads) == len(set(HEADS)) - 1  # the flat head's layers are those of the linear one
    kinds = {type(own) for cnn in drawn for own in cnn[0].modules()}
    assert len(kinds & {nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish}) >= 5
    assert kinds >= {nn.BatchNorm2d, nn.GroupNorm}


@pytest.mark.parametrize("number", range(len(FAMILIES)))
@pytest.mark.parametrize("size", [32, 64])
def test_each_family_has_places_and_gradients(number, size):
    cnn = make_classifier(f"varied_{number}", NAMES).eval()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    features = cnn.backbone[0](images)
    assert features.shape[2] == features.shape[3] > 1
    logits = cnn(images)
    assert logits.shape == (2, 3)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("number", range(12))
def test_evidence_of_any_of_them(number):
    cnn = make_classifier(f"varied_{number}", NAMES).eval().requires_grad_(False)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maker = EvidenceMaker(cnn, (64, 64), count=3)
    assert maker.channels == (2, 2, 2, 3)
    made = maker(images, target=1)
    assert all(own.isfinite().all() for own in made.activations)
    torch.testing.assert_close(made.logits, cnn(images), rtol=1e-3, atol=1e-4)


def test_one_learns_is_saved_and_read(tmp_path):
    """Two classes, bright and dark, are told apart after some steps."""
    light = torch.arange(64) % 2
    images = (light[:, None, None, None] * 150 + torch.randint(0, 100, (64, 3, 32, 32))).byte()
    cnn = make_classifier("varied_5", NAMES[:2])
    history = fit(cnn, ImageSplit(images, light), FitOptions(epochs=6, batch_size=16, learning_rate=0.01))
    assert history["accuracy"].iloc[-1] > 0.9
    save_classifier(cnn, tmp_path)
    again = load_classifier(tmp_path)
    pictures = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(pictures), cnn(pictures))


@pytest.mark.parametrize(
    "name", ["varied", "varied_", "varied_x", "varied_1.0", "Varied_1", "varied_1234567"]
)
def test_other_names_are_none_of_them(name):
    assert not is_small(name)
    with pytest.raises(KeyError, match="varied_0, varied_1"):
        varied(name, 3)
    with pytest.raises(KeyError):
        make_classifier(name, NAMES)


@pytest.mark.parametrize("name", ["slim_vgg", "varied_0"])
def test_one_of_a_single_output_is_read_again(name, tmp_path):
    cnn = make_classifier(name, ["no", "yes"], output="binary").eval()
    save_classifier(cnn, tmp_path)
    pictures = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(load_classifier(tmp_path)(pictures), cnn(pictures))
