"""What concepts and contrasting cost: factorisation and hyperplanes beside what others do."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import NMF
from torch import nn
from torch.nn import functional as F

from gan_lib.concepts import nmf
from gan_lib.concepts.contrasting import Hyperplanes
from gan_lib.core.runtime import median_seconds

ROUNDS = 5


@pytest.fixture(scope="module")
def activations():
    """60 images x 14 x 14 places x 512 channels: a dozen non-negative parts, and noise."""
    drawn = torch.Generator().manual_seed(0)
    rows, channels, parts = 60 * 14 * 14, 512, 12
    weights = torch.rand(rows, parts, generator=drawn) * (torch.rand(rows, parts, generator=drawn) < 0.3)
    basis = torch.rand(parts, channels, generator=drawn) * (
        torch.rand(parts, channels, generator=drawn) < 0.2
    )
    return weights @ basis + 0.1 * torch.rand(rows, channels, generator=drawn)


def test_factorisation(record, activations):
    """Six concepts of one class, both from a NNDSVDa start, each with its own default end."""
    array = activations.numpy()
    model = NMF(6, init="nndsvda", random_state=0)
    seconds = median_seconds(
        {"ours": lambda: nmf(activations[None], 6), "theirs": lambda: model.fit(array)}, ROUNDS
    )
    error = float(nmf(activations[None], 6).error)
    assert error <= 1.01 * model.reconstruction_err_ / float(activations.norm())
    what = "factorisation into 6 concepts, 60 x 14 x 14 x 512"
    record(what, "ours", "scikit-learn", seconds["ours"] / seconds["theirs"], ROUNDS)


def test_hyperplanes(record):
    """One pair of classes, 1000 vectors each of 512 channels."""
    drawn = torch.Generator().manual_seed(0)
    centres = torch.rand(2, 512, generator=drawn)
    vectors = {
        label: (0.6 * centres[label] + 0.6 * torch.randn(1000, 512, generator=drawn)).relu()
        for label in range(2)
    }
    both = torch.cat([vectors[0], vectors[1]])
    labels = torch.tensor([1.0, 0.0]).repeat_interleave(1000)

    def loop() -> None:
        plane = nn.Linear(512, 1)
        optimizer = torch.optim.SGD(plane.parameters(), 0.01)
        for _ in range(100):
            for rows in torch.randperm(len(both)).split(64):
                loss = F.binary_cross_entropy_with_logits(plane(both[rows])[:, 0], labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    seconds = median_seconds({"ours": lambda: Hyperplanes(vectors).plane(0, 1), "loop": loop}, ROUNDS)
    what = "hyperplane of one pair, 2 x 1000 x 512"
    record(what, "ours", "100 epochs of SGD", seconds["ours"] / seconds["loop"], ROUNDS)
