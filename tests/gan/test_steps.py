"""One step of each training of GANs, worked out by hand: losses, gradients, Adam, average, criterion, rates.

The networks have one to four weights. What is expected is written out in float64; gradients are central
differences of it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from gan_lib.core.runtime import make_fabric
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.gan.training import ContrastiveOptions, Schedule, TrainingOptions, contrastive, supervised
from gan_lib.gan.training.loop import GANState, train_gan

CPU = make_fabric("cpu")
RATE, DECAY = 0.01, 0.9


class Drawer(nn.Module):
    """Logits ``weight * seen + bias``; it sees the first condition map, or how much redder than green."""

    def __init__(self, weight, bias, sees_maps):
        super().__init__()
        self.line = nn.Parameter(torch.tensor([weight, bias]))
        self.sees_maps = sees_maps

    def prepare(self, activations):
        """Nothing is standardised."""

    def logits(self, images, conditions):
        seen = conditions[:, :1] if self.sees_maps else images[:, :1] - images[:, 1:2]  # (B, 1, H, W)
        return self.line[0] * seen + self.line[1]


class Critic(nn.Module):
    """``u * mean(image) + v * mean(map)`` of images and maps, ``(u + v * class) * mean(image)`` of classes."""

    def __init__(self, first, second):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([first, second]))

    def forward(self, images, given):
        shade = images.mean((1, 2, 3))
        given = given.mean((1, 2, 3)) if given.ndim == 4 else given * shade
        return self.weights[0] * shade + self.weights[1] * given


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def gradient(function, point, step=1e-5):
    """Central differences of a function of a few numbers."""
    point = np.asarray(point, dtype=float)
    shifts = step * np.eye(len(point))
    return np.array([(function(point + shift) - function(point - shift)) / (2 * step) for shift in shifts])


def values(parameter):
    return parameter.detach().double().numpy().copy()


def close(expected):
    return pytest.approx(expected, rel=2e-4, abs=1e-6)


# -- supervised --------------------------------------------------------------------------------------

GREY = np.array([0.2, 0.6])  # of two images of one row and two pixels
SEEN = np.array([[1.0, -1.0], [2.0, 15.0]])  # their first condition; the last pixel's logit is beyond 4
TARGET = np.array([[1.0, 0.0], [0.5, 0.25]])
LINE, CRITIC = (0.4, -0.1), (-1.0, 2.0)


class Stored:
    """Conditions of the two images."""

    count, fingerprint = 2, "by hand"

    def __len__(self):
        return 2

    def __getitem__(self, rows):
        cgma = torch.tensor(np.stack([SEEN, -SEEN], 1)[:, :, None], dtype=torch.float32)  # (2, 2, 1, 2)
        target = torch.tensor(TARGET[:, None, None], dtype=torch.float32)  # (2, 1, 1, 2)
        return SimpleNamespace(cgma=cgma[rows], target=target[rows])


def supervised_losses(line, critic, kind):
    logits = line[0] * SEEN + line[1]  # (2, 2)
    maps = sigmoid(logits)
    real = critic[0] * GREY + critic[1] * TARGET.mean(1)  # (2,)
    fake = critic[0] * GREY + critic[1] * maps.mean(1)
    if kind == "bce":
        adversarial = np.log1p(np.exp(-fake)).mean()
        discriminator = (np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean()) / 2
    else:
        adversarial = -fake.mean()
        discriminator = (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()) / 2
    return {
        "reconstruction": np.abs(maps - TARGET).mean(),
        "adversarial": adversarial,
        "discriminator": discriminator,
        "discriminator_accuracy": ((real > 0).mean() + (fake <= 0).mean()) / 2,
        "saturation": (np.maximum(0, np.abs(logits) - 4) ** 2).mean(),
    }


@pytest.mark.parametrize("kind", ["bce", "hinge"])
@pytest.mark.parametrize("critic", [CRITIC, (3.0, -1.5)])
def test_supervised_step(kind, critic):
    options = TrainingOptions(
        learning_rate=RATE,
        discriminator_learning_rate=2 * RATE,
        adversarial=kind,
        adversarial_weight=0.7,
        discriminator_weight=0.3,
        reconstruction_weight=5.0,
        saturation_weight=0.5,
        ema_decay=DECAY,
    )
    state = GANState(Drawer(*LINE, sees_maps=True), Critic(*critic), options, CPU)
    pixels = torch.tensor(np.repeat(255 * GREY, 6).reshape(2, 3, 1, 2)).round().to(torch.uint8)
    images = ImageSplit(pixels, torch.zeros(2, dtype=torch.long))
    rows = torch.tensor([1, 0])

    logged = supervised._step(state, images, Stored(), options, rows)
    expected = supervised_losses(LINE, critic, kind)
    penalty = expected.pop("saturation")
    assert penalty == pytest.approx(1.9**2 / 4)
    assert logged == {name: close(value) for name, value in expected.items()}

    def total(line):
        losses = supervised_losses(line, critic, kind)
        return 0.7 * losses["adversarial"] + 5 * losses["reconstruction"] + 0.5 * losses["saturation"]

    slope = gradient(total, LINE)
    assert values(state.generator.line.grad) == close(slope)
    # Adam's first step has the length of the learning rate, whatever the gradient's.
    first = values(state.generator.line)
    assert first == close(np.array(LINE) - RATE * np.sign(slope))

    learned = gradient(lambda weights: supervised_losses(LINE, weights, kind)["discriminator"], critic)
    assert values(state.discriminator.weights.grad) == close(0.3 * learned)
    assert values(state.discriminator.weights) == close(np.array(critic) - 2 * RATE * np.sign(learned))

    assert values(state.average.module.line) == close(first)  # it starts where the first step ends
    state.step = 1
    supervised._step(state, images, Stored(), options, rows)
    second = values(state.generator.line)
    assert values(state.average.module.line) == close(DECAY * first + (1 - DECAY) * second)


def test_the_discriminators_schedule_by_hand():
    """With every second step its turn: updated at steps 0 and 2, at 1 only asked, as it was left."""
    options = TrainingOptions(
        learning_rate=RATE, discriminator_learning_rate=2 * RATE, discriminator_every=2, ema_decay=0.0
    )
    state = GANState(Drawer(*LINE, sees_maps=True), Critic(*CRITIC), options, CPU)
    pixels = torch.tensor(np.repeat(255 * GREY, 6).reshape(2, 3, 1, 2)).round().to(torch.uint8)
    images = ImageSplit(pixels, torch.zeros(2, dtype=torch.long))
    critic, first, second = np.array(CRITIC), 0.0, 0.0
    for state.step in range(3):
        # The generator's maps of this step are judged, not those that it would draw after it.
        judged = partial(supervised_losses, values(state.generator.line), kind="bce")
        losses = judged(critic)
        slope = 0.3 * gradient(lambda own, judged=judged: judged(own)["discriminator"], critic)
        logged = supervised._step(state, images, Stored(), options, torch.tensor([0, 1]))
        assert logged["discriminator"] == close(losses["discriminator"])
        assert logged["discriminator_accuracy"] == close(losses["discriminator_accuracy"])
        if state.step != 1:  # Adam's update number 1 at step 0, number 2 at step 2
            number = 1 + state.step // 2
            first = 0.5 * first + 0.5 * slope
            second = 0.999 * second + 0.001 * slope**2
            mean, square = first / (1 - 0.5**number), second / (1 - 0.999**number)
            critic = critic - 2 * RATE * mean / (np.sqrt(square) + 1e-8)
        assert values(state.discriminator.weights) == close(critic)
        # Without an average the generator is as its last step left it.
        assert torch.equal(state.average.module.line, state.generator.line)


def test_a_long_gradient_is_shortened():
    state = GANState(Drawer(0.0, 0.0, True), Critic(0.0, 0.0), Schedule(adversarial_weight=0.0), CPU)
    for longest, expected in ((0.0, [3.0, 4.0]), (10.0, [3.0, 4.0]), (2.5, [1.5, 2.0])):
        state.options = Schedule(adversarial_weight=0.0, clip_gradient=longest)
        total = (state.generator.line * torch.tensor([3.0, 4.0])).sum()
        nothing = (torch.zeros(1), torch.zeros(1))
        state.update({}, total, nothing, nothing)
        assert values(state.generator.line.grad) == pytest.approx(expected)


def test_learning_rates_by_hand(tmp_path):
    """Six steps, of which four warm up; a cosine from 1 to 0.1."""
    options = Schedule(
        epochs=2,
        batch_size=4,
        learning_rate=1.0,
        discriminator_learning_rate=0.5,
        warmup_steps=4,
        final_learning_rate=0.1,
    )
    state = GANState(nn.Linear(1, 1), nn.Linear(1, 1), options, CPU)
    rates, rows = [], []

    def step(picked):
        optimizers = (state.generator_optimizer, state.discriminator_optimizer)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        rows.append(picked.tolist())
        for optimizer in optimizers:
            optimizer.step()
        return {"loss": 0.0}

    log = train_gan(state, step, 10, tmp_path)
    root = math.sqrt(3) / 2
    cosines = [1, (1 + root) / 2, 3 / 4, 1 / 2, 1 / 4, (1 - root) / 2]
    warmup = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    expected = [(0.1 + 0.9 * cosine) * share for cosine, share in zip(cosines, warmup, strict=True)]
    assert rates == [
        [pytest.approx(rate, rel=1e-12), pytest.approx(rate / 2, rel=1e-12)] for rate in expected
    ]
    assert log["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    assert [len(picked) for picked in rows] == [4, 4, 2] * 2
    for epoch in (rows[:3], rows[3:]):
        assert sorted(row for picked in epoch for row in picked) == list(range(10))
    assert rows[:3] != rows[3:]


def test_the_weights_with_the_lowest_criterion_are_the_result(tmp_path):
    """Five steps, validated at the second, the fourth and the last: the fourth is the best."""
    options = Schedule(epochs=1, batch_size=1, adversarial_weight=0.0, ema_decay=0.5)
    state = GANState(nn.Linear(1, 1), nn.Linear(1, 1), options, CPU)
    criteria, averages = iter([3.0, 1.0, 2.0]), []

    def step(rows):
        state.generator.weight.data.fill_(state.step)
        state.average.update_parameters(state.generator)
        averages.append(state.average.module.weight.item())
        return {"loss": 0.0}

    log = train_gan(state, step, 5, tmp_path, validate=lambda: next(criteria), validate_every=2)
    assert averages == [0, 0.5, 1.25, 2.125, 3.0625]
    assert state.generator.weight.item() == 2.125
    assert log["criterion"].fillna(-1).tolist() == [-1, 3, -1, 1, 2]
    assert not state.generator.training


# -- contrastive -------------------------------------------------------------------------------------

SCALE = 6.0  # of the CNN's logits, in the mean colour
COLOURS = (
    np.array(  # the left and the right column of images of 2 x 2 pixels; the mean's largest is the class
        [
            [[1.0, 0.2, 0.0], [0.6, 0.2, 0.2]],
            [[0.2, 0.8, 0.4], [0.4, 1.0, 0.0]],
            [[0.8, 0.0, 0.4], [0.6, 0.4, 0.2]],
            [[0.0, 0.2, 1.0], [0.2, 0.4, 0.8]],
            [[0.2, 0.2, 0.6], [0.0, 0.4, 1.0]],
            [[0.4, 0.6, 0.2], [0.2, 1.0, 0.0]],
        ]
    )
)
SHADES = np.array([1.0, 0.6])  # of the upper and the lower row
PIXELS = torch.tensor(255 * np.einsum("r,ncd->ndrc", SHADES, COLOURS)).round().to(torch.uint8)
PICTURES = PIXELS.double().numpy() / 255  # (6, 3, 2, 2)
CLASSES = np.array([0, 1, 0, 2, 2, 1])
OPTIONS = ContrastiveOptions(
    learning_rate=RATE,
    discriminator_learning_rate=2 * RATE,
    ema_decay=DECAY,
    clip_gradient=0.0,
    contrastive_weight=1.5,
    fidelity_weight=0.8,
    complement_weight=0.6,
    adversarial_weight=0.4,
    discriminator_weight=0.3,
    area_weight=2.0,
    area=(0.02, 0.3),
    smoothness_weight=0.7,
    temperature=0.5,
    ranked=0.6,
    ranked_area=(0.2, 0.8),
    mosaics=("beside", "above"),
    mosaic_every=2,
    seed=0,
)
SHARP = (9.0, -1.0)  # a generator some of whose logits saturate


class ColourNet(nn.Module):
    """Two layers that pass the colours on; a class's logit is its colour's mean."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 3)
        for layer, scale in ((self.first, 1.0), (self.second, 1.0), (self.head, SCALE)):
            layer.weight.data = scale * torch.eye(3).view_as(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images):
        return self.head(self.second(self.first(images)).mean((2, 3)))


def trainer_of(options=OPTIONS, line=SHARP):
    images = ImageSplit(PIXELS, torch.full((6,), 7))  # labels say nothing
    state = GANState(Drawer(*line, sees_maps=False), Critic(1.0, 2.0), options, CPU)
    cnn = contrastive.CNNTask(FeatureMaker(ColourNet(), (2, 2), 1), images, options, CPU)
    assert cnn.classes.tolist() == CLASSES.tolist()
    cnn.order = torch.arange(6)
    return contrastive._Trainer(state, cnn)


def draws_of(options, count, seed):
    """Two rows of uniform draws: the areas, and who is ranked."""
    generator = torch.Generator().manual_seed(1_000_003 * options.seed + seed)
    return torch.rand(2, count, generator=generator).double().numpy()


def objective(line, task, draws, fill="black", options=OPTIONS, held=None):
    """Losses and explained images; ``held`` keeps the quantiles of masks, through which no gradient flows."""
    pictures, classes, *_, parts = task
    held = {} if held is None else held
    logits = line[0] * (pictures[:, 0] - pictures[:, 1]) + line[1]  # (B, H, W)
    maps = sigmoid(logits)
    masks, uniform = maps.copy(), options.ranked_draw == "uniform"
    for i in np.flatnonzero(draws[1] < options.ranked):
        low, high = options.ranked_area
        at = draws[0, i]
        area = (low + at * (high - low) if uniform else low * (high / low) ** at) / parts
        standard = (logits[i] - logits[i].mean()) / (logits[i].std(ddof=1) + 1e-3)
        place = int((1 - area) * (standard.size - 1))
        quantile = held.setdefault(i, np.sort(standard, axis=None)[place])
        masks[i] = sigmoid((standard - quantile) / 0.15)
    hidden = 0 * pictures if fill == "black" else pictures.mean((2, 3), keepdims=True)
    shown = pictures * masks[:, None] + hidden * (1 - masks[:, None])
    rest = pictures * (1 - masks[:, None]) + hidden * masks[:, None]
    shares = maps.mean((1, 2))
    low, high = options.area[0] / parts, options.area[1] / parts
    losses = {
        "contrastive": contrast(*(image.mean((2, 3)) for image in (shown, rest)), task, options),
        "fidelity": fidelity(
            *(own.mean((2, 3)) for own in (shown, rest)), classes, options.complement_weight, options.fidelity
        ),
        "area_penalty": np.mean(
            np.maximum(0, (low - shares) / low) ** 2 + np.maximum(0, (shares - high) / high) ** 2
        ),
        "smoothness": np.abs(np.diff(maps, axis=1)).mean() + np.abs(np.diff(maps, axis=2)).mean(),
        "saturation": (np.maximum(0, np.abs(logits) - 6) ** 2).mean(),
        "area": maps.mean() * parts,
    }
    return losses, shown


def contrast(shown, rest, task, options):
    """Khosla's loss, in loops, of mean colours (B, 3)."""
    _, classes, others, originals, _ = task

    def similar(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b) / options.temperature

    total = 0.0
    for i, asked in enumerate(classes):
        positive, negative = [], []
        for j, other in enumerate(classes):
            same = positive if asked == other else negative
            same.append(similar(shown[i], originals[j]))
            if i != j:
                same.append(similar(shown[i], shown[j]))
            if others[j] != asked and options.complement_weight > 0:
                negative.append(similar(shown[i], rest[j]))
        total += np.mean(np.log(np.exp(positive + negative).sum()) - np.array(positive))
    return total / len(classes)


def fidelity(shown, rest, classes, weight, kind="logarithm"):
    rows = range(len(classes))
    shown, rest = (np.exp(SCALE * colours) for colours in (shown, rest))  # (B, 3)
    kept = (shown / shown.sum(1, keepdims=True))[rows, classes]
    left = (rest / rest.sum(1, keepdims=True))[rows, classes]
    if kind == "probability":
        return (1 - kept).mean() + weight * left.mean()
    return -np.log(kept).mean() - weight * np.log(1 - left).mean()


def weighted(losses):
    return (
        1.5 * losses["contrastive"]
        + 0.8 * losses["fidelity"]
        + 2.0 * losses["area_penalty"]
        + 0.7 * losses["smoothness"]
        + losses["saturation"]
    )


def plain_task(rows):
    return PICTURES[rows], CLASSES[rows], np.full(len(rows), -1), PICTURES[rows].mean((2, 3)), 1


def mosaic_task(parts, classes, others, axis):
    """Mosaics of two images each, by their numbers; the second asks for its second part."""
    pictures = np.stack([np.concatenate([PICTURES[one], PICTURES[two]], axis) for one, two in parts])
    asked = [parts[0][0], parts[1][1]]
    return pictures, np.array(classes), np.array(others), PICTURES[asked].mean((2, 3)), 2


# Images 1, 0, 2, 3 are of classes 1, 0, 0, 2. The partner of the first is image 0, and that of image 0 the
# next of another class, image 3. Of four images two mosaics are made.
BESIDE = mosaic_task([(1, 0), (3, 0)], [1, 0], [0, 2], axis=2)
ABOVE = mosaic_task([(1, 0), (5, 0)], [1, 0], [0, 1], axis=1)  # of images 1, 0, 5, 1


@pytest.mark.parametrize(
    ("step", "rows", "task"),
    [
        (0, [1, 0, 2, 3], plain_task([1, 0, 2, 3])),
        (1, [1, 0, 2, 3], BESIDE),
        (3, [1, 0, 5, 1], ABOVE),
        (1, [0, 2], plain_task([0, 2])),  # of one class: no mosaics
    ],
)
@pytest.mark.parametrize(
    ("seed", "changes"), [(0, {}), (1, {}), (0, {"fidelity": "probability", "ranked_draw": "uniform"})]
)
def test_contrastive_step(step, rows, task, seed, changes):
    options = replace(OPTIONS, seed=seed, **changes)
    trainer = trainer_of(options)
    state, state.step = trainer.state, step
    critic = values(state.discriminator.weights)
    line = np.array(SHARP)
    draws = draws_of(options, len(task[1]), step)
    held = {}
    expected, shown = objective(line, task, draws, options=options, held=held)

    def judged(shown, weights):
        pictures, classes = task[:2]
        return [(weights[0] + weights[1] * classes) * seen.mean((1, 2, 3)) for seen in (pictures, shown)]

    def critical(weights):
        real, fake = judged(shown, weights)
        return (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()) / 2

    real, fake = judged(shown, critic)
    expected["adversarial"] = -fake.mean()
    expected["discriminator"] = critical(critic)
    expected["discriminator_accuracy"] = ((real > 0).mean() + (fake <= 0).mean()) / 2

    logged = trainer.step(torch.tensor(rows))
    assert logged == {name: close(value) for name, value in expected.items()}
    assert list(logged) == list(expected)

    def total(line):
        losses, shown = objective(line, task, draws, options=options, held=held)
        return weighted(losses) - 0.4 * judged(shown, critic)[1].mean()

    slope = gradient(total, line)
    assert values(state.generator.line.grad) == pytest.approx(slope, rel=1e-3)
    first = values(state.generator.line)
    assert first == close(line - RATE * np.sign(slope))
    learned = gradient(critical, critic)
    assert values(state.discriminator.weights.grad) == close(0.3 * learned)
    assert values(state.discriminator.weights) == close(critic - 2 * RATE * np.sign(learned))
    assert values(state.average.module.line) == close(first)
    state.step = step + 1
    trainer.step(torch.tensor(rows))
    second = values(state.generator.line)
    assert values(state.average.module.line) == close(DECAY * first + (1 - DECAY) * second)


@pytest.mark.parametrize("fills", [("black",), ("mean",), ("black", "mean")])
def test_criterion(fills):
    """The averaged generator's objective, weighted by the parts' sizes, equally over all fills."""
    options = replace(OPTIONS, fills=fills)
    trainer = trainer_of(options)
    average = np.array([2.0, -0.5])
    trainer.state.average.module.line.data.copy_(torch.tensor(average))
    rows = torch.arange(6).repeat(11)  # a part of 64 and one of 2
    by_fill = []
    for fill in fills:
        total = 0.0
        for index, part in enumerate(rows.split(64)):
            draws = draws_of(options, len(part), index)
            losses, _ = objective(average, plain_task(part.numpy()), draws, fill)
            total += weighted(losses) * len(part)
        by_fill.append(total / 66)
    assert len(set(by_fill)) == len(fills)
    assert trainer.criterion(rows) == close(np.mean(by_fill))


def test_with_one_fill_the_criterion_is_what_it_was():
    """To the last bit: sums over parts, divided by the number of rows."""
    trainer = trainer_of()
    rows = torch.arange(6).repeat(11)
    with torch.no_grad():
        parts = [
            trainer.cnn.weighted(
                trainer.cnn.objective(
                    trainer.state.average.module, trainer.cnn.task(part, 0, mosaics=False), index, "black"
                )[0]
            )
            * len(part)
            for index, part in enumerate(rows.split(64))
        ]
    assert trainer.criterion(rows) == float(torch.stack(parts).sum() / len(rows))
