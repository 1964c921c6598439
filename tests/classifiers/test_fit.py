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


def slope_of(weight, rows, colours=COLOURS, labels=LABELS):
    """Gradient (2, 3) of the mean cross-entropy, and the summed loss and right answers."""
    seen = colours[rows] / 255
    logits = seen @ weight.T
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -np.log(shares[range(len(rows)), labels[rows]]).sum()
    right = (logits.argmax(1) == labels[rows]).sum()
    return (shares - np.eye(2)[labels[rows]]).T @ seen / len(rows), loss, right


def by_hand(options, orders):
    """Weights and history after all steps; ``orders`` are the rows of every epoch's batches."""
    weight, first, second = WEIGHT.copy(), 0.0, 0.0
    steps, step, history = sum(map(len, orders)), 0, []
    for epoch, batches in enumerate(orders):
        losses = right = 0
        for rows in batches:
            slope, loss, hits = slope_of(weight, rows)
            losses, right = losses + loss, right + hits
            rate, decay = one_cycle(step, steps, options.learning_rate)
            step += 1
            first = decay * first + (1 - decay) * slope
            second = 0.999 * second + 0.001 * slope**2
            weight = weight * (1 - rate * options.weight_decay)
            mean, square = first / (1 - decay**step), second / (1 - 0.999**step)
            weight = weight - rate * mean / (np.sqrt(square) + 1e-8)
        history.append({"epoch": epoch + 1, "loss": losses / len(LABELS), "accuracy": right / len(LABELS)})
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


def constant_by_hand(optimizer, orders, rate, decay):
    """Weights after all steps of SGD without momentum, or of Adam, with an L2 penalty."""
    weight, first, second, step = WEIGHT.copy(), 0.0, 0.0, 0
    for rows in (own for batches in orders for own in batches):
        slope = slope_of(weight, rows)[0] + decay * weight
        step += 1
        if optimizer == "sgd":
            weight = weight - rate * slope
            continue
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weight = weight - rate * mean / (np.sqrt(square) + 1e-8)
    return weight


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_published_optimisers_by_hand(optimizer, decay):
    """The same learning rate at each of six steps."""
    options = FitOptions(3, 2, 0.1, decay, 5, optimizer=optimizer, one_cycle=False)
    cnn = classifier_of_colours()
    fit(cnn, IMAGES, options, fabric=CPU)
    orders = [
        [batch.rows.numpy() for batch in IMAGES.batches(2, shuffle_seed=5000 + epoch)] for epoch in range(3)
    ]
    expected = constant_by_hand(optimizer, orders, 0.1, decay)
    assert cnn.backbone[2].weight.detach().double().numpy() == pytest.approx(expected, rel=1e-4)


def test_a_cycle_gives_sgd_its_momentum():
    options = FitOptions(4, 2, 0.1, 0.0, optimizer="sgd")
    cnn = classifier_of_colours()
    fit(cnn, IMAGES, options, fabric=CPU)
    orders = [[batch.rows.numpy() for batch in IMAGES.batches(2, shuffle_seed=epoch)] for epoch in range(4)]
    weight, velocity, step = WEIGHT.copy(), None, 0
    for rows in (own for batches in orders for own in batches):
        rate, decay = one_cycle(step, 8, 0.1)
        slope = slope_of(weight, rows)[0]
        velocity = slope if velocity is None else decay * velocity + slope
        weight, step = weight - rate * velocity, step + 1
    assert cnn.backbone[2].weight.detach().double().numpy() == pytest.approx(weight, rel=1e-4)


SHADES = np.random.default_rng(7).integers(0, 256, (12, 3))  # labelled without rhyme or reason
NAMED = np.array([0, 1, 1] * 4)
MANY = ImageSplit(torch.tensor(SHADES, dtype=torch.uint8)[:, :, None, None], torch.tensor(NAMED))
ASIDE = FitOptions(6, 4, 3.0, 0.0, 2, optimizer="sgd", one_cycle=False, validation=0.25)


def test_images_put_aside_by_hand():
    """A quarter, classes in proportion; the weights are those of the epoch with the lowest loss on it."""
    cnn = classifier_of_colours()
    history = fit(cnn, MANY, ASIDE, fabric=CPU)
    aside = MANY.sample(3, 2)
    assert sorted(MANY.labels[aside].tolist()) == [0, 1, 1]
    learned = np.setdiff1d(np.arange(12), aside.numpy())
    weight, kept = WEIGHT.copy(), []
    for epoch in range(6):
        losses = right = 0
        order = torch.randperm(9, generator=torch.Generator().manual_seed(2000 + epoch))
        for rows in order.split(4):
            slope, loss, hits = slope_of(weight, learned[rows.numpy()], SHADES, NAMED)
            weight, losses, right = weight - 3.0 * slope, losses + loss, right + hits
        _, loss, hits = slope_of(weight, aside.numpy(), SHADES, NAMED)
        kept.append((loss / 3, weight.copy()))
        row = history.loc[epoch]
        assert (row["loss"], row["accuracy"]) == pytest.approx((losses / 9, right / 9), rel=1e-4)
        measured = (row["validation_loss"], row["validation_accuracy"])
        assert measured == pytest.approx((loss / 3, hits / 3), rel=1e-4)
    best = int(np.argmin([loss for loss, _ in kept]))
    assert 0 < best < 5, "else this test would not tell the best from the last"
    assert cnn.backbone[2].weight.detach().double().numpy() == pytest.approx(kept[best][1], rel=1e-4)


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_the_best_epoch_survives_a_resume(tmp_path, monkeypatch, killed_after):
    whole = classifier_of_colours(dropout=0.5)
    history = fit(whole, MANY, ASIDE, fabric=CPU)
    calls = []

    def killed(path, state):
        save_checkpoint(path, state)
        calls.append(path)
        if len(calls) == killed_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("gan_lib.classifiers.fit"), "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(classifier_of_colours(dropout=0.5), MANY, ASIDE, tmp_path, CPU)
    monkeypatch.undo()
    resumed = classifier_of_colours(dropout=0.5)
    assert fit(resumed, MANY, ASIDE, tmp_path, CPU).equals(history)
    assert torch.equal(resumed.backbone[2].weight, whole.backbone[2].weight)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_too_few_images_to_put_some_aside(share):
    options = FitOptions(1, 2, validation=share)
    with pytest.raises(ValueError, match=f"validation={share} of 3 images leaves too few"):
        fit(classifier_of_colours(), IMAGES, options, fabric=CPU)


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


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epochs": 2.5}, {"learning_rate": "0.1"}, {"rate": 0.1}, {"seed": None}),
        *({"optimizer": "rmsprop"}, {"validation": 1.0}, {"validation": -0.1}, {"one_cycle": 1}),
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises((ValueError, TypeError)):
        FitOptions(**wrong)
