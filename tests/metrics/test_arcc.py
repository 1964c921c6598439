from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gan_lib.metrics import MEASURES, Measure, adcc, arcc, judge

HALF = torch.tensor([[1.0, 1.0], [0.0, 0.0]])[None, None]


def test_by_hand():
    """Coherency 1, simplicity 1/2, ROAD 0.6; turned round 0; a quarter of a turn, 1/2."""
    road = torch.tensor([[0.1, 0.3]]), torch.tensor([[0.9, 0.7]])  # highest, then lowest gone
    assert arcc(HALF, HALF, road).item() == pytest.approx(3 / (1 + 2 + 1 / 0.6))
    assert arcc(HALF, 1 - HALF, road).item() == 0.0
    assert arcc(HALF, HALF.mT, road).item() == pytest.approx(3 / (2 + 2 + 1 / 0.6))
    assert arcc(HALF, HALF, road[::-1]).item() == 0.0  # better without what it points at
    assert arcc(0 * HALF, HALF, road).item() == 0.0
    after = torch.tensor([0.48])  # of 0.8: 0.6 of it is left
    assert adcc(HALF, HALF, torch.tensor([0.8]), after).item() == pytest.approx(3 / (1 + 2 + 1 / 0.6))


def test_judge_takes_it_once_it_is_registered(colour_net, monkeypatch):
    monkeypatch.setattr(MEASURES, "_things", dict(MEASURES._things))
    MEASURES.register("arcc", Measure(arcc, "ARCC"))
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def explain(pictures, target):
        return F.avg_pool2d(pictures.mean(1, keepdim=True), 3, 1, 1)

    maps, given = {("mean", 0): explain(images, None)}, {"explain": {("mean", 0): explain}, "fills": ()}
    target = torch.tensor([0, 1, 2])
    scores = judge(colour_net, images, maps, target, road=(0.2, 0.6), **given).scores
    assert scores["arcc"].between(0, 1).all()
    shares = 2 * scores["road"].clip(0, 0.5)
    assert ((scores["arcc"] > 0) == (shares > 0)).all()
    assert "arcc" not in judge(colour_net, images, maps, target, **given).scores
