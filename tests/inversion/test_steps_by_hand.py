"""Objectives, gradients and steps worked out by hand, on masks of three places."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gan_lib.inversion import (
    PUBLISHED_STEP_2,
    STEP_1,
    STEP_2,
    GuidedInversion,
    Inversion,
    InversionOptions,
    blurred,
    channel_mask,
    convergence,
)
from gan_lib.inversion.optimise import optimise
from gan_lib.inversion.steps import class_scores

# Two channels at three places: the weighted sum is [2 u, v, 0], the mask [1, v / 2u, 0] for 2 u > v.
CHANNELS = torch.tensor([[[[2.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]])  # (1, 2, 1, 3)
PLAIN = InversionOptions(iterations=1, learning_rate=0.01, sparsity=0.0, keep="last")


def middle(masks):
    """The mask at the second place: v / 2u."""
    return masks[:, 0, 0, 1]


def found(objective, start, options, channels=CHANNELS):
    return optimise(objective, torch.tensor(start), channels.expand(len(start), -1, -1, -1), (1, 3), options)


def test_the_mask():
    masks = channel_mask(torch.tensor([[0.5, 0.4]]), CHANNELS, (1, 3))
    assert masks.flatten().tolist() == pytest.approx([1.0, 0.4, 0.0])
    # Twice as wide: places lie at 0.25 and 0.75 between the old ones.
    wide = channel_mask(torch.tensor([[0.5, 0.4]]), CHANNELS, (1, 6))
    assert wide.flatten().tolist() == pytest.approx([1.0, 0.85, 0.55, 0.3, 0.1, 0.0])


def test_one_step_of_adam_and_what_the_objective_is():
    """d(v / 2u) = (-v / 2u^2, 1 / 2u): u goes up, v down, each by the learning rate at first."""
    made = found(middle, [[0.1, 0.1]], PLAIN)
    assert made.weights.flatten().tolist() == pytest.approx([0.11, 0.09], abs=1e-6)
    assert made.trace.flatten().tolist() == pytest.approx([0.1 / 0.2, 0.09 / 0.22], abs=1e-5)
    assert made.masks.flatten().tolist() == pytest.approx([1, 0.09 / 0.22, 0], abs=1e-5)
    penalised = found(middle, [[0.1, 0.1]], replace(PLAIN, sparsity=10.0, area=3.0))
    # 0.5 + 10 (0.1 + 0.1) + 3 mean(1, 0.5, 0); the derivatives by u and v are -5 + 10 - 5 = 0 and 5 + 10 + 5.
    assert penalised.trace[0, 0].item() == pytest.approx(0.5 + 2 + 1.5)
    assert penalised.weights[0, 1].item() == pytest.approx(0.09, abs=1e-6)
    uphill = found(lambda masks: -middle(masks), [[0.1, 0.1]], PLAIN)
    assert uphill.weights.flatten().tolist() == pytest.approx([0.09, 0.11], abs=1e-6)


def test_the_rate_is_halved_and_weights_stop_at_zero():
    """A constant gradient: every step of Adam is as long as the learning rate."""
    options = replace(PLAIN, sparsity=1.0, iterations=3, halved_every=2)
    made = found(lambda masks: 0 * middle(masks), [[0.1, 0.015]], options)
    assert made.weights.flatten().tolist() == pytest.approx([0.1 - 0.01 - 0.01 - 0.005, 0.0], abs=1e-5)
    assert made.trace.flatten().tolist() == pytest.approx([0.115, 0.095, 0.08, 0.075], abs=1e-5)


def test_the_best_weights_or_the_last():
    """The gradient of ``middle`` against it: what goes down as told goes up in truth."""
    rising = [0.0, 1.0, -1.0, 2.0, 3.0]

    def objective(masks):
        return 0 * middle(masks) + rising[len(calls := seen)] + 0 * (calls.append(1) or 0)

    made = {}
    for keep in ("best", "last"):
        seen: list[int] = []
        options = replace(PLAIN, iterations=4, sparsity=1e-3, keep=keep)
        made[keep] = found(objective, [[0.1, 0.1]], options)
    assert made["best"].weights[0, 0].item() == pytest.approx(0.1 - 2 * 0.01, abs=1e-5)
    assert made["last"].weights[0, 0].item() == pytest.approx(0.1 - 4 * 0.01, abs=1e-5)
    assert made["best"].trace.shape == (1, 5)


def test_weights_that_have_vanished_are_never_the_best():
    options = replace(PLAIN, iterations=4, sparsity=10.0, keep="best")
    made = found(lambda masks: 0 * middle(masks), [[0.025, 0.0]], options)
    assert made.weights[0, 0].item() == pytest.approx(0.005, abs=1e-5)  # two steps on; the third reaches 0
    assert made.trace[0].tolist() == pytest.approx([0.25, 0.15, 0.05, 0.0, 0.0], abs=1e-4)


def test_images_go_their_own_ways():
    """One goes up, the other down; each keeps its own best."""
    signs = torch.tensor([1.0, -1.0])
    made = found(lambda masks: signs * middle(masks), [[0.1, 0.1], [0.2, 0.1]], replace(PLAIN, keep="best"))
    assert made.weights.flatten().tolist() == pytest.approx([0.11, 0.09, 0.19, 0.11], abs=1e-6)
    assert made[1:].trace.flatten().tolist() == pytest.approx([-0.25, -0.11 / 0.38], abs=1e-5)


@pytest.fixture
def base(colour_net):
    """An activation that is the image: the mask at the start is minmax(0.09, 0.06, 0) = (1, 2/3, 0)."""
    image = torch.zeros(1, 3, 1, 3)
    image[0, 0, 0, 0], image[0, 1, 0, 1] = 0.9, 0.6
    return GuidedInversion(colour_net, "layer").base(image, torch.full_like(image, 0.3))


def test_both_steps_objectives_at_their_start(colour_net, base):
    inversion = GuidedInversion(colour_net, "layer")
    first = inversion.saliency(base, replace(STEP_1, iterations=1))
    # Foreground minus image: 0.3 (1 - m) - x (1 - m) by place and colour.
    apart = 3 * 0.3**2 + (0.3 - 0.6) ** 2 / 9 + 2 * 0.3**2 / 9
    assert first.trace[0, 0].item() == pytest.approx(apart + 10 * 0.3, abs=1e-5)
    start = replace(first, weights=torch.full((1, 3), 0.1))
    second = inversion.discriminate(base, start, 1, replace(PUBLISHED_STEP_2, iterations=1))
    inside, outside = (
        (0.0 + (0.4 + 0.1) + 0.3) / 3,
        (0.3 + (0.2 + 0.2) + 0.0) / 3,
    )  # class 1: the second colour
    assert second.trace[0, 0].item() == pytest.approx(20 * (outside - inside) + 0.3, abs=1e-4)
    other = inversion.discriminate(base, start, 0, replace(PUBLISHED_STEP_2, iterations=1))
    inside, outside = (0.9 + 0.1 + 0.3) / 3, (0.3 + 0.2 + 0.0) / 3
    assert other.trace[0, 0].item() == pytest.approx(20 * (outside - inside) + 0.3, abs=1e-4)


def test_scores_of_classes(colour_net):
    """Of probabilities 1/2, 1/4, 1/4 the log-odds are 0 and -log 3; of labels, logits are log-odds."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log() + 7
    classes = torch.tensor([0, 1])
    assert class_scores(colour_net, logits, classes, "logit").tolist() == pytest.approx(
        [7 - math.log(2), 7 - math.log(4)], abs=1e-5
    )
    assert class_scores(colour_net, logits, classes, "log_odds").tolist() == pytest.approx(
        [0, -math.log(3)], abs=1e-5
    )
    colour_net.output = "multi_label"
    assert torch.equal(
        class_scores(colour_net, logits, classes, "log_odds"), torch.stack([logits[0, 0], logits[1, 1]])
    )


def test_step_2_by_log_odds_at_its_start(colour_net, base):
    """As above; the scores are 20 / 3 of (1.3, 0.8, 0.4) inside and (0.5, 0.7, 0.5) outside, by colour."""
    inversion = GuidedInversion(colour_net, "layer")
    weights = torch.full((1, 3), 0.1)
    made = inversion.discriminate(
        base, Inversion(weights, weights, weights), 1, replace(STEP_2, iterations=1, start="saliency")
    )
    seen = ([1.3, 0.8, 0.4], [0.5, 0.7, 0.5])
    inside, outside = (
        20 / 3 * own[1] - math.log(math.exp(20 / 3 * own[0]) + math.exp(20 / 3 * own[2])) for own in seen
    )
    assert made.trace[0, 0].item() == pytest.approx(
        outside - inside + 0.3 * 0.3 + 40 * (1 + 2 / 3) / 3, abs=1e-3
    )


class Headed(torch.nn.Module):
    """Logits: a matrix times the channels' means."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()
        self.head = torch.nn.Linear(3, 3, bias=False)
        self.head.weight.data = torch.tensor([[3.0, 1.0, -2.0], [1.0, 2.0, 0.0], [-1.0, -1.0, -1.0]])

    def forward(self, images):
        return self.head(self.layer(images).mean((2, 3)))


def test_evidence_of_channels_and_where_step_2_starts():
    inversion = GuidedInversion(Headed(), "layer")
    black = inversion.base(torch.zeros(2, 3, 1, 3))
    of_logits = inversion.evidence(black, torch.tensor([0, 2]), "logit")
    assert of_logits[0].tolist() == pytest.approx([1, 1 / 3, 0])
    assert of_logits[1].tolist() == [0, 0, 0]
    # Of black images all logits are 0: log-odds lean on the mean of the two other rows.
    of_odds = inversion.evidence(black, torch.tensor([0, 1]))
    assert of_odds[0].tolist() == pytest.approx([1, 0.5 / 3, 0])  # 3 - 0, 1 - 0.5, -2 + 0.5
    assert of_odds[1].tolist() == pytest.approx([0, 2 / 2, 1.5 / 2])  # 1 - 1, 2 - 0, 0 + 1.5

    image = torch.rand(1, 3, 1, 3, generator=torch.Generator().manual_seed(0))
    base = inversion.base(image, torch.full_like(image, 0.3))
    from_step_1 = replace(PUBLISHED_STEP_2, iterations=1)
    evident = replace(from_step_1, start="evidence")

    def start_of(weights, label, options):
        given = torch.tensor([weights])
        return inversion.discriminate(base, Inversion(given, given, given), label, options).trace[0, 0].item()

    chosen = start_of([0.1, 0.3, 0.2], 0, evident)
    assert chosen == pytest.approx(start_of([0.1, 0.1, 0.0], 0, from_step_1), abs=1e-5)
    assert chosen != pytest.approx(start_of([0.1, 0.3, 0.2], 0, from_step_1), abs=1e-2)
    nothing_speaks = start_of([0.1, 0.3, 0.2], 2, evident)
    assert nothing_speaks == pytest.approx(start_of([0.1, 0.3, 0.2], 2, from_step_1), abs=1e-6)


def test_the_blur_is_a_gaussian_cut_off_at_one_sigma():
    """Of sigma 11 for a side of 224: 2 for one of 41, two pixels to each side."""
    point = torch.zeros(1, 3, 21, 41)
    point[:, :, 10, 20] = 1.0
    sigma = 41 * 11 / 224
    taps = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).square().div(-2 * sigma**2).exp()
    taps = taps / taps.sum()
    made = blurred(point)
    assert torch.allclose(made[0, 0, 8:13, 18:23], torch.outer(taps, taps), atol=1e-6)
    assert made.sum().item() == pytest.approx(3.0, abs=1e-4)
    assert blurred(point, 1.0)[0, 0, 10].count_nonzero() == 3


def test_convergence_is_told_in_shares_of_the_start():
    traces = torch.tensor([[2.0, 1.0], [-4.0, -6.0], [1.0, 0.0], [10.0, 2.0], [5.0, 4.0]])
    made = convergence({"a": Inversion(traces, traces, traces), "b": Inversion(traces, traces, traces[:1])})
    assert made.columns.tolist() == ["method", "iteration", "objective", "objective_low", "objective_high"]
    assert made["method"].tolist() == ["a", "a", "b", "b"]
    assert made["iteration"].tolist() == [0, 1, 0, 1]
    # Shares after one iteration: 0.5, -1.5, 0, 0.2, 0.8.
    assert made.loc[1, ["objective_low", "objective", "objective_high"]].tolist() == pytest.approx(
        [0, 0.2, 0.5]
    )
    assert made.loc[3, "objective"] == 0.5
