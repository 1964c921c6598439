"""Other CNNs are asked what drawn pictures show."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_lib.concepts import recognition_test


class Fixed(nn.Module):
    """Says about the pictures what it was told, in their order."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits[: len(images)]


def test_who_wins_by_hand():
    """Two classes of three are drawn; the third wins one picture, among the two the right one does."""
    third, first = Fixed([0.0, 1.0, 2.0], [9.0, 0.0, 0.0]), Fixed([9.0, 0.0, 0.0], [9.0, 0.0, 0.0])
    table = recognition_test({"third": third, "first": first}, torch.rand(2, 3, 8, 8), [1, 0])
    assert table["judge"].tolist() == ["third", "third", "first", "first"]
    assert table["picture"].tolist() == [0, 1, 0, 1]
    assert table["class"].tolist() == [1, 0, 1, 0]
    assert table["prediction"].tolist() == [2, 0, 0, 0]
    assert table["won"].tolist() == [False, True, False, True]
    assert table["won_among"].tolist() == [True, True, False, True]
    e = torch.tensor(1.0).exp().item()
    assert table["probability"][0] == pytest.approx(e / (1 + e + e**2))


def test_several_pictures_of_a_class():
    table = recognition_test({"one": Fixed([0.0, 3.0], [0.0, 3.0])}, torch.rand(2, 3, 8, 8), [1, 1])
    assert table["won_among"].all()


def test_what_cannot_be_judged_is_refused():
    judge, pictures = {"one": Fixed([0.0, 1.0])}, torch.rand(1, 3, 8, 8)
    for judges, given, classes in (({}, pictures, [0]), (judge, pictures, [0, 1]), (judge, pictures[:0], [])):
        with pytest.raises(ValueError, match=r"judges, .* pictures and .* classes"):
            recognition_test(judges, given, classes)
    for classes in ([2], [-1]):
        with pytest.raises(ValueError, match="classes 0 to 1"):
            recognition_test(judge, pictures, classes)
