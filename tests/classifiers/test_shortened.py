"""CNNs cut short, on features worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib.classifiers import shortened
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import EvidenceMaker, evidence_channels


class Forbidden(nn.Module):
    def forward(self, features):
        raise AssertionError("what follows the cut has run")


def three_layers(last=None):
    """Its second layer is the image less a half: rectified, what is brighter than grey."""
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        for layer, bias in ((first, 0.0), (second, -0.5)):
            layer.weight.copy_(torch.eye(3)[:, :, None, None])
            layer.bias.fill_(bias)
    return nn.Sequential(first, second, last or Forbidden())


def coloured(classes, count=30, seed=0):
    """Images (N, 3, 8, 8), of class k bright in channel k, labelled as ``classes`` says."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes).repeat_interleave(count)
    pixels = torch.randint(60, 120, (len(labels), 3, 8, 8), generator=generator, dtype=torch.uint8)
    for row, channel in enumerate(torch.arange(len(classes)).repeat_interleave(count)):
        pixels[row, channel] += 100
    return ImageSplit(pixels, labels)


def test_it_ends_at_the_layer_and_tells_the_classes_apart():
    images = coloured([7, 2, 5])
    short, known = shortened(three_layers(), "1", images)
    assert len(known) == 90
    given = images.batch(torch.arange(90))
    logits = short(given.images)
    assert logits.shape == (90, 3)
    assert torch.equal(logits.argmax(1), torch.tensor([2, 0, 1]).repeat_interleave(30)), "by class, 2 5 7"
    means = F.relu(given.images - 0.5).mean((2, 3))  # (N, 3)
    torch.testing.assert_close(logits, means @ short.head.weight.T + short.head.bias)
    assert not any(own.requires_grad for own in short.head.parameters())


def test_two_classes_have_a_logit_each():
    images = coloured([1, 0])
    short, known = shortened(three_layers(), "1", images)
    logits = short(known.batch(torch.arange(60)).images)
    assert torch.equal(logits.argmax(1), known.labels)
    torch.testing.assert_close(logits.sum(1), torch.zeros(60), atol=1e-4, rtol=0)


@pytest.mark.parametrize("classes", [[(0, 20), (1, 45)], [(0, 20), (1, 45), (2, 30)]])
def test_it_says_each_class_as_often_as_it_is_there(classes):
    """Where the gradient of the intercepts, on which there is no penalty, is 0, the mean probability of a
    class is its share of the images; standardising the features must have gone into the right ones."""
    every = [coloured([label], count, seed=label) for label, count in classes]
    labels = torch.cat([own.labels for own in every])
    images = ImageSplit(torch.cat([own.images for own in every]), labels)
    short, known = shortened(three_layers(), "1", images)
    with torch.no_grad():
        found = short(known.batch(torch.arange(len(known))).images).softmax(1).mean(0)
    torch.testing.assert_close(found, torch.bincount(labels) / len(labels), atol=1e-3, rtol=0)


def test_rare_classes_are_not_learned():
    few, many = coloured([4], 19), coloured([3, 9], 20)
    images = ImageSplit(torch.cat([few.images, many.images]), torch.cat([few.labels, many.labels]))
    short, known = shortened(three_layers(), "1", images)
    assert known.labels.unique().tolist() == [3, 9]
    assert short.head.out_features == 2
    with pytest.raises(ValueError, match="two classes of 20 images or more, not 0"):
        shortened(three_layers(), "1", few)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("7", KeyError, "no layer '7'"),
        ("1#0", ValueError, "behind a module, by its name alone, not at '1#0'"),
        ("1@input", ValueError, "not at '1@input'"),
        ("3", RuntimeError, "layer '3' did not run"),
        ("2", RuntimeError, r"layer '2' gives \(\d+, 192\), not features"),
    ],
)
def test_a_layer_that_is_none_to_cut_at(layer, error, message):
    cnn = three_layers(nn.Flatten())
    cnn.register_module("3", nn.Identity())
    cnn.forward = lambda images: cnn[2](cnn[1](cnn[0](images)))
    with pytest.raises(error, match=message):
        shortened(cnn, layer, coloured([0, 1]))


class Pair(nn.Module):
    def forward(self, features):
        return features, features


def test_a_layer_that_gives_no_tensor():
    with pytest.raises(RuntimeError, match="layer '2' gives a tuple, not features"):
        shortened(three_layers(Pair()), "2", coloured([0, 1]))


class Joining(nn.Module):
    """A block whose output is no layer's: the sum of a stream and a branch, or both side by side."""

    def __init__(self, side_by_side):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 1)
        self.side_by_side = side_by_side

    def forward(self, images):
        stream = self.stem(images)
        return (
            torch.cat([stream, self.branch(stream)], 1) if self.side_by_side else stream + self.branch(stream)
        )


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("fold", [False, True])
def test_its_evidence_is_that_of_all_features(side_by_side, fold):
    """At a place it is the head's row applied to that place's rectified features, to the factor and offset of
    a standardisation."""
    torch.manual_seed(0)
    block = Joining(side_by_side)
    short, known = shortened(nn.Sequential(block, Forbidden()), "0", coloured([0, 1, 2]))
    images = known.batch(torch.tensor([0, 31, 62, 89])).images
    maker = EvidenceMaker(short, (8, 8), count=2, fold=fold)
    made = maker(images)
    assert maker.has_places
    assert tuple(own.shape[1] for own in made.activations) == evidence_channels(2)
    logits = torch.einsum("kc,bchw->bkhw", short.head.weight, F.relu(block(images)))
    own = logits[torch.arange(4), made.explained].flatten(1)  # (4, 9)
    centred = own - own.mean(1, keepdim=True)
    expected = centred / centred.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(made.activations[-1][:, 0].flatten(1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cnn_is_left_as_it_is(training, dtype):
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).to(dtype).train(training)
    before = {name: own.clone() for name, own in cnn.state_dict().items()}
    with torch.inference_mode():
        short, known = shortened(cnn, "1", coloured([0, 1]))
    assert all(torch.equal(own, before[name]) for name, own in cnn.state_dict().items())
    assert [own.training for own in cnn.modules()] == [training] * 4
    assert all(own.requires_grad for own in cnn.parameters())
    assert not any(own.requires_grad or own.is_inference() for own in short.head.parameters())
    assert short.head.weight.dtype == dtype
    with torch.no_grad():
        right = short.eval()(known.batch(torch.arange(60)).images.to(dtype)).argmax(1) == known.labels
    assert right.all()
