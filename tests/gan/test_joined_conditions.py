"""Conditions of several cells as if they were one set."""

from __future__ import annotations

import pytest
import torch

from gan_lib.gan.conditions import ConditionMaker, StoredConditions, compute_conditions


def test_joined_conditions_are_their_parts(tiny_net, scenes, tmp_path):
    maker = ConditionMaker(tiny_net, (32, 32), 2)
    parts = [scenes.train.subset(range(7)), scenes.train.subset(range(20, 25))]
    stored = [compute_conditions(maker, part, tmp_path / str(i)) for i, part in enumerate(parts)]
    joined = StoredConditions(*(folder for own in stored for folder in own.folders))
    images = torch.cat([part.batch(range(len(part))).images for part in parts])
    assert len(joined) == len(images) == 12
    assert joined.count == 2
    rows = torch.tensor([8, 0, 6, 7, 11, 3])
    expected = maker(images[rows])
    made = joined[rows]
    assert torch.allclose(made.cgma, expected.cgma, atol=1e-3)
    assert torch.allclose(made.target, expected.target, atol=1e-3)
    assert torch.equal(made.explained, expected.explained)
    assert torch.equal(joined[torch.tensor([9])].cgma, stored[1][torch.tensor([2])].cgma)
    assert torch.equal(joined[:7].target, stored[0][:].target)
    other_way_round = StoredConditions(*joined.folders[::-1])
    assert len({joined.fingerprint, other_way_round.fingerprint, stored[0].fingerprint}) == 3
    assert torch.equal(other_way_round[torch.tensor([4, 5])].cgma[1], stored[0][torch.tensor([0])].cgma[0])


def test_joining_what_does_not_fit(tiny_net, scenes, tmp_path):
    part = scenes.train.subset(range(2))
    stored = [
        compute_conditions(ConditionMaker(tiny_net, (32, 32), n), part, tmp_path / str(n)) for n in (1, 2)
    ]
    with pytest.raises(ValueError, match="same number"):
        StoredConditions(*(own.folders[0] for own in stored))
    with pytest.raises(ValueError, match="same number"):
        StoredConditions()
