"""A small CNN of its own, a hidden layer of it, and images."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from gan_lib.concepts import HiddenLayer
from gan_lib.data import ImageSplit

LAYER = "features.6"


class Plain(nn.Module):
    """Convolutions and ReLUs of their own, which Captum needs; four classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 10, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(10, 4)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


@pytest.fixture
def net():
    net = Plain().eval().requires_grad_(False)
    noise = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    net.head.bias -= net(noise).mean(0)  # or one class alone would be predicted
    return net


@pytest.fixture
def hidden(net):
    return HiddenLayer(net, LAYER, (16, 16))


@pytest.fixture
def split():
    drawn = torch.Generator().manual_seed(3)
    return ImageSplit(
        torch.randint(0, 256, (40, 3, 16, 16), generator=drawn, dtype=torch.uint8), torch.zeros(40).long()
    )


@pytest.fixture
def table(net, split):
    """What the CNN predicts for the images."""
    logits = net(split.batch(range(len(split))).images)
    return pd.DataFrame({"image": range(len(split)), "prediction": logits.argmax(1).tolist()})
