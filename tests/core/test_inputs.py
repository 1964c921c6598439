"""How many images go through a CNN together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_lib.core.inputs import at_once


@pytest.mark.parametrize(
    ("size", "count"), [((64, 64), 32), ((224, 224), 2), ((32, 128), 32), ((256, 512), 1), ((1024, 1024), 1)]
)
def test_as_many_as_caches_hold(size, count):
    """131,072 pixels: 32 times 4,096, 2.6 times 50,176, once 131,072."""
    assert at_once(nn.Conv2d(3, 4, 3), size) == count


def test_elsewhere_more():
    """4,194,304 pixels: 83.6 times 50,176."""
    with torch.device("meta"):
        cnn = nn.Conv2d(3, 4, 3)
    assert at_once(cnn, (224, 224)) == 83
