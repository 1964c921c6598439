"""The contrastive objective and its parts, by hand and by what they must not do."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gan_lib.core.masking import filling, masked_images, top_share
from gan_lib.data import mosaic
from gan_lib.gan.objectives import (
    area_loss,
    contrastive_loss,
    fidelity_loss,
    mask_of_area,
    saturation_loss,
    total_variation,
)

NONE = torch.full((4,), -1)


def by_hand(explained, originals, complements, classes, others, temperature):
    """Khosla's loss over all anchors, written as loops."""
    total = 0.0
    for i in range(len(classes)):

        def similarity(other, i=i):
            return float(F.cosine_similarity(explained[i], other, dim=0)) / temperature

        positives, negatives = [], []
        for j in range(len(classes)):
            same = classes[i] == classes[j]
            (positives if same else negatives).append(similarity(originals[j]))
            if i != j:
                (positives if same else negatives).append(similarity(explained[j]))
            if classes[i] != others[j]:
                negatives.append(similarity(complements[j]))
        denominator = math.log(sum(math.exp(value) for value in positives + negatives))
        total += sum(denominator - value for value in positives) / len(positives)
    return total / len(classes)


@pytest.mark.parametrize("others", [NONE, torch.tensor([1, 0, -1, 0])])
def test_contrastive_loss_by_hand(others):
    generator = torch.Generator().manual_seed(0)
    explained, originals, complements = torch.randn(3, 4, 6, generator=generator)
    classes = torch.tensor([0, 1, 0, 2])
    expected = by_hand(explained, originals, complements, classes, others, 0.5)
    ours = contrastive_loss(explained, originals, complements, classes, others, 0.5)
    assert float(ours) == pytest.approx(expected, abs=1e-4)


def test_the_complement_of_a_mosaic_may_show_the_other_class():
    """The gradient on it: repelled by its own asked class, not by the class that it rightly shows."""
    explained = torch.eye(2)
    complements = torch.tensor([[0.6, 0.8], [0.6, 0.8]], requires_grad=True)
    classes = torch.tensor([0, 1])
    contrastive_loss(explained, torch.eye(2), complements, classes, torch.tensor([1, -1])).backward()
    assert complements.grad[0, 0] > 0  # away from class 0
    assert complements.grad[0].norm() < complements.grad[1].norm()  # which class 1 repels as well


def test_fidelity_by_hand():
    shown, rest = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.5, 0.0], [3.0, 1.0]])
    classes = torch.tensor([0, 1])
    p, q = shown.softmax(1)[range(2), classes], rest.softmax(1)[range(2), classes]
    expected = -p.log().mean() - (1 - q).log().mean()
    assert torch.allclose(fidelity_loss(shown, rest, classes), expected)


def test_fidelity_of_labels_that_do_not_exclude_each_other():
    """p is a sigmoid: 0.75 of the explained image's label 0, 0.25 of its complement's; label 1 is of no account."""
    shown, rest = torch.tensor([[math.log(3), 9.0]]), torch.tensor([[-math.log(3), 9.0]])
    loss = fidelity_loss(shown, rest, torch.tensor([0]), complement_weight=2.0, exclusive=False)
    assert float(loss) == pytest.approx(-math.log(0.75) - 2 * math.log(1 - 0.25), abs=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_fidelity_in_probabilities_by_hand(exclusive):
    """Shown .75 and .5, hidden .25 and .5: 1 - .625 + 2 * .375. Of two outputs that exclude each other the
    difference decides, else each alone."""
    lead = math.log(3)
    shown, rest = torch.tensor([[lead, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, lead], [0.0, 0.0]])
    if not exclusive:
        shown, rest = torch.tensor([[lead, 9.0], [9.0, 0.0]]), torch.tensor([[-lead, 9.0], [9.0, 0.0]])
    given = {"complement_weight": 2.0, "exclusive": exclusive, "kind": "probability"}
    assert float(fidelity_loss(shown, rest, torch.tensor([0, 1]), **given)) == pytest.approx(1.125)


def test_fidelity_of_a_certain_cnn_is_finite():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = fidelity_loss(-logits, logits, torch.tensor([0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_area_band():
    maps = torch.full((1, 1, 8, 8), 0.15, requires_grad=True)
    loss = area_loss(maps, 0.05, 0.25)
    loss.backward()
    assert loss == 0
    assert maps.grad.abs().sum() == 0
    assert area_loss(torch.zeros(1, 1, 8, 8), 0.05, 0.25) == pytest.approx(1)
    assert area_loss(torch.ones(1, 1, 8, 8), 0.05, 0.25) == pytest.approx(9)
    two = torch.tensor([0.02, 0.5]).view(2, 1, 1, 1).expand(2, 1, 8, 8)  # each map on its own
    assert area_loss(two, 0.05, 0.25) == pytest.approx((0.6**2 + 1) / 2)


def test_total_variation_and_saturation():
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1
    assert total_variation(step) == pytest.approx(1 / 3)
    assert total_variation(step.mT) == pytest.approx(1 / 3)
    down_and_across = torch.tensor([[0.0, 1.0], [0.5, 0.25]]).view(1, 1, 2, 2)
    assert total_variation(down_and_across) == pytest.approx((0.5 + 0.75) / 2 + (1 + 0.25) / 2)
    assert total_variation(torch.ones(1, 1, 4, 4)) == 0
    assert saturation_loss(torch.tensor([[5.0, -7.0]]), limit=6) == pytest.approx(0.5)


def test_mask_of_area_keeps_to_the_area_and_to_the_order():
    logits = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    area = torch.tensor([0.05, 0.1, 0.3])
    mask = mask_of_area(logits, area)
    assert torch.allclose((mask > 0.5).float().mean((1, 2, 3)), area, atol=2e-3)
    assert torch.allclose(mask, mask_of_area(5 * logits + 3, area), atol=1e-2)


@pytest.mark.parametrize(("area", "quantile"), [(0.5, 1), (0.25, 2), (1.0, 0)])
def test_mask_of_area_by_hand(area, quantile):
    """Of scores 0, 1, 2, 5 (mean 2, deviation sqrt(14 / 3)): half of the image has more than score 1."""
    scores = torch.tensor([0.0, 1.0, 5.0, 2.0]).view(1, 1, 2, 2)
    unit = math.sqrt(14 / 3) + 1e-3
    expected = [1 / (1 + math.exp(-(score - quantile) / unit / 0.15)) for score in (0, 1, 5, 2)]
    assert mask_of_area(scores, torch.tensor([area])).flatten().tolist() == pytest.approx(expected)


def test_mask_of_area_has_no_gradient_along_shift_and_scale():
    """With one, training would raise all logits for ever, and saturate the map."""
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.rand(1, 1, 16, 16)
    (mask_of_area(logits, torch.tensor([0.2])) * weights).sum().backward()
    assert logits.grad.sum().abs() < 1e-3 * logits.grad.abs().sum()
    assert (logits.grad * (logits - logits.mean())).sum().abs() < 1e-2 * logits.grad.abs().sum()


def test_top_share_is_exact_even_on_flat_maps():
    flat = torch.zeros(2, 1, 8, 8)
    assert top_share(flat, 0.25).sum((1, 2, 3)).tolist() == [16, 16]
    assert top_share(flat, torch.tensor([0.5, 0.0])).sum((1, 2, 3)).tolist() == [32, 0]
    maps = torch.rand(1, 1, 8, 8)
    top = top_share(maps, 0.1)
    assert maps[top].min() > maps[~top].max()


def test_separable_blur_is_the_square_one():
    from torchvision.transforms.functional import gaussian_blur

    images = torch.rand(1, 3, 40, 40)
    assert torch.allclose(filling(images, "blur"), gaussian_blur(images, [17, 17], [4.0, 4.0]), atol=1e-5)
    assert filling(torch.rand(1, 3, 20, 200), "blur").shape == (1, 3, 20, 200)
    with pytest.raises(KeyError, match="unknown fill 'pink'"):
        masked_images(images, torch.ones(1, 1, 40, 40), "pink")


@pytest.mark.parametrize("kind", ["beside", "above", "halves", "pasted"])
def test_mosaics(kind):
    first, second = torch.zeros(2, 3, 16, 12), torch.ones(2, 3, 16, 12)
    joined, is_first = mosaic(first, second, kind)
    assert joined.shape[-2:] == is_first.shape[-2:]
    assert (joined[is_first.expand_as(joined)] == 0).all()
    assert torch.allclose(joined[~is_first.expand_as(joined)], torch.ones(()))
    assert {"beside": (16, 24), "above": (32, 12)}.get(kind, (16, 12)) == tuple(joined.shape[-2:])


def test_mosaics_of_what_does_not_fit():
    with pytest.raises(ValueError, match="make no mosaic"):
        mosaic(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match="one of"):
        mosaic(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), "diagonal")


def test_complements_can_be_left_out():
    shown, rest = torch.randn(4, 3), torch.randn(4, 3)
    classes = torch.tensor([0, 1, 2, 0])
    alone = torch.nn.functional.cross_entropy(shown, classes)
    assert torch.allclose(fidelity_loss(shown, rest, classes, complement_weight=0), alone)
    explained, originals = torch.randn(4, 8), torch.randn(4, 8)
    nothing = torch.full((4,), -1)
    losses = [
        contrastive_loss(explained, originals, complements, classes, nothing, repel_complements=repelled)
        for repelled in (False, True)
        for complements in (torch.randn(4, 8), torch.randn(4, 8))
    ]
    assert torch.allclose(losses[0], losses[1])
    assert not torch.allclose(losses[2], losses[3])
