"""A measure of one's own: one function, registered; then a column of every table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan_lib.explainers import Edges
from gan_lib.figures import ranked_table
from gan_lib.metrics import MEASURES, Measure, headings, judge, stated, summarise, win_shares


def brightest(maps: Tensor, evidence: Tensor) -> Tensor:
    """The map's highest value on the evidence (B,)."""
    return maps.where(evidence, 0).amax((1, 2, 3))


def test_a_measure_of_ones_own(tiny_net, images, monkeypatch):
    monkeypatch.setattr(MEASURES, "_things", dict(MEASURES._things))  # for this test only
    MEASURES.register("brightest", Measure(brightest, "brightest\nof the evidence"))
    evidence = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    evidence[..., 4:9, 4:9] = True
    maps = {("edges", 0): Edges(tiny_net).attribute(images), ("empty", 0): torch.zeros(3, 1, 16, 16)}
    maps["edges", 0][0, 0, 5, 5] = 1.0
    scores = judge(tiny_net, images, maps, torch.tensor([0, 2, 3]), evidence=evidence, fills=()).scores
    assert scores["brightest"].tolist()[0] == 1
    assert scores["brightest"].tolist()[3:] == [0, 0, 0]
    results = summarise(scores)
    columns = headings(results["measure"].unique())
    assert columns["brightest"] == ("brightest\nof the evidence", True)
    figure = ranked_table(results, columns)
    assert "brightest\nof the evidence\n(higher)" in [
        label.get_text() for label in figure.axes[0].get_xticklabels()
    ]
    printed = stated(results, {name: label.replace("\n", " ") for name, (label, _) in columns.items()})
    assert printed.loc["empty", "brightest of the evidence"] == "0.00 [0.00, 0.00]"
    assert win_shares(scores, "brightest").loc["edges", "empty"] == 100
    without = judge(tiny_net, images, maps, torch.tensor([0, 2, 3]), fills=()).scores
    assert "brightest" not in without  # there is no evidence to look at
    with pytest.raises(ValueError, match="another measure 'brightest'"):
        MEASURES.register("brightest", Measure(brightest, "brightest again"))
