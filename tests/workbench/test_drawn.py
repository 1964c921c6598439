"""Pictures that one CNN of a cohort drew are shown to the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gan_lib.workbench.cohort import Cohort
from gan_lib.workbench.drawn import DrawnClasses, recognised


class Says(nn.Module):
    """One class for every picture, and of two others rather the first."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, images):
        return (50.0 * torch.eye(3)[self.label] - torch.arange(3)).expand(len(images), 3)


def _subject(label):
    return SimpleNamespace(cnn=Says(label), trained=SimpleNamespace(key=f"cnn {label}"))


def test_no_cnn_judges_its_own_pictures():
    """CNN 0 says class 0, CNN 1 class 1, CNN 2 class 2: of pictures of classes 0 and 1, those that CNN 0
    drew are called 1 and 2 by the others, those of CNN 1 are called 0 and 2."""
    cohort = Cohort({seed: _subject(seed) for seed in range(3)})
    drawn = {
        seed: DrawnClasses([0, 1], {"drawn": torch.rand(2, 3, 8, 8), "random phases": torch.rand(2, 3, 8, 8)})
        for seed in (0, 1)
    }
    table = recognised(cohort, drawn, {})
    own = table[table["method"] == "drawn"].set_index(["seed", "image"])
    assert own["won"].to_dict() == {(0, 0): 0, (0, 1): 50, (1, 0): 50, (1, 1): 0}
    assert own["won_among"].to_dict() == {(0, 0): 50, (0, 1): 50, (1, 0): 100, (1, 1): 0}
    assert own["probability"][(1, 0)] == pytest.approx(0.5)
    assert own["cnn"].to_dict()[(1, 0)] == "cnn 1"
    assert len(table) == 8


def test_further_judges():
    cohort = Cohort({0: _subject(0)})
    drawn = {0: DrawnClasses([1], {"drawn": torch.rand(1, 3, 8, 8)})}
    assert recognised(cohort, drawn, {"judge": _subject(1)})["won"].tolist() == [100]
    with pytest.raises(ValueError, match="0 judges"):
        recognised(cohort, drawn, {})
