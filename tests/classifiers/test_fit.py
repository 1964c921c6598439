"""Training a classifier, worked out by hand: AdamW under a one-cycle learning rate, loss and accuracy."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from gan_lib.classifiers import FitOptions, fit
from gan_lib.classifiers.wrap import Classifier, ModelCard
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import save_checkpoint
from gan_lib.data import ImageSplit

CPU = make_fabric("cpu")
COLOURS = np.array([[255, 0, 51], [0, 204, 102], [153, 102, 0]])  # three images of one pixel
LABELS = np.array([0, 1, 1])
WEIGHT = np.array([[0.3, -0.2, 0.1], [-0.1, 0.4, 0.2]])  # logits of a colour


def classifier_of_colours(dropout=0.0):
    layers = [nn.Flatten(), nn.Dropout(dropout), nn.Linear(3, 2, bias=False)]
    layers[-1].weight.data = torch.tensor(WEIGHT, dtype=torch.float32)
    card = ModelCard("by hand", ("a", "b"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier(nn.Sequential(*layers), card)


IMAGES = ImageSplit(torch.tensor(COLOURS, dtype=torch.uint8)[:, :, None, None], torch.tensor(LABELS))


def one_cycle(step, steps, largest):
    """Learning rate and first moment's decay: up to 30 % of the steps, then down (Smith & Topin, 2019)."""

    def between(start, end, share):
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    top = 0.3 * steps - 1
    if step <= top:
        return between(largest / 25, largest, step / top), between(0.95, 0.85, step / top)
    share = (step - top) / (steps - 1 - top)
    return between(largest, largest / 25 / 1e4, share), between(0.85, 0.95, share)


def by_hand(options, orders):
    """Weights and history after all steps; ``orders`` are the rows of every epoch's batches."""
    weight, first, second = WEIGHT.copy(), 0.0, 0.0
    steps, step, history = sum(map(len, orders)), 0, []
    for epoch, batches in enumerate(orders):
        losses, right = [], 0
        for rows in batches:
            seen = COLOURS[rows] / 255
            logits = seen @ weight.T
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses += list(-np.log(shares[range(len(rows)), LABELS[rows]]))
            right += (logits.argmax(1) == LABELS[rows]).sum()
            slope = (shares - np.eye(2)[LABELS[rows]]).T @ seen / len(rows)
            rate, decay = one_cycle(step, steps, options.learning_rate)
            step += 1
            first = decay * first + (1 - decay) * slope
            second = 0.999 * second + 0.001 * slope**2
            weight = weight * (1 - rate * options.weight_decay)
            mean, square = first / (1 - decay**step), second / (1 - 0.999**step)
            weight = weight - rate * mean / (np.sqrt(square) + 1e-8)
        history.append({"epoch": epoch + 1, "loss": np.mean(losses), "accuracy": right / len(LABELS)})
    return weight, history


def test_every_step_by_hand():
    """Five epochs of a batch of two and one of one, in the order that the seed gives."""
    options = FitOptions(epochs=5, batch_size=2, learning_rate=0.1, weight_decay=0.2, seed=3)
    cnn = classifier_of_colours()
    history = fit(cnn, IMAGES, options, fabric=CPU)
    orders = [
        [batch.rows.numpy() for batch in IMAGES.batches(2, shuffle_seed=3000 + epoch)] for epoch in range(5)
    ]
    assert len({str(order) for order in orders}) > 1
    weight, expected = by_hand(options, orders)
    assert cnn.backbone[2].weight.detach().double().numpy() == pytest.approx(weight, rel=1e-4)
    for (_, row), wanted in zip(history.iterrows(), expected, strict=True):
        assert dict(row) == {name: pytest.approx(value, rel=1e-5) for name, value in wanted.items()}
    assert history["accuracy"].nunique() > 1
    assert not cnn.training


def test_no_epochs_leave_the_weights():
    cnn = classifier_of_colours()
    assert fit(cnn, IMAGES, FitOptions(epochs=0), fabric=CPU).empty
    assert torch.equal(cnn.backbone[2].weight, torch.tensor(WEIGHT, dtype=torch.float32))


def test_dropout_is_the_same_after_a_resume(tmp_path, monkeypatch):
    options = FitOptions(epochs=3, batch_size=2, learning_rate=0.1)
    whole = classifier_of_colours(dropout=0.5)
    history = fit(whole, IMAGES, options, fabric=CPU)

    def killed(path, state):
        save_checkpoint(path, state)
        raise KeyboardInterrupt

    module = importlib.import_module("gan_lib.classifiers.fit")  # the package exports its function `fit`
    monkeypatch.setattr(module, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(classifier_of_colours(dropout=0.5), IMAGES, options, tmp_path, CPU)
    monkeypatch.undo()
    torch.rand(7)  # another state of the global generator
    resumed = classifier_of_colours(dropout=0.5)
    assert fit(resumed, IMAGES, options, tmp_path, CPU).equals(history)
    assert torch.equal(resumed.backbone[2].weight, whole.backbone[2].weight)


def test_a_checkpoint_of_other_options_is_not_gone_on_from(tmp_path):
    fit(classifier_of_colours(), IMAGES, FitOptions(epochs=2, batch_size=2), tmp_path, CPU)
    other = FitOptions(epochs=3, batch_size=2, learning_rate=0.1)
    again, alone = classifier_of_colours(), classifier_of_colours()
    assert fit(again, IMAGES, other, tmp_path, CPU).equals(fit(alone, IMAGES, other, fabric=CPU))
    assert torch.equal(again.backbone[2].weight, alone.backbone[2].weight)


@pytest.mark.parametrize("wrong", [{"epochs": 2.5}, {"learning_rate": "0.1"}, {"rate": 0.1}, {"seed": None}])
def test_options_are_checked(wrong):
    with pytest.raises((ValueError, TypeError)):
        FitOptions(**wrong)
