"""What the networks are trained for: adversarial, reconstruction and contrastive objectives.

Adversarial ones are ``bce`` (arXiv 2301.08067) or ``hinge``. What makes a map an explanation without any map
to learn from: ``x * m + fill * (1 - m)`` should be to the CNN what the image was, and the complement
``x * (1 - m) + fill * m`` should not.
"""

from __future__ import annotations

from typing import Literal

import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor
from torch.nn import functional as F

Adversarial = Literal["bce", "hinge"]
Fidelity = Literal["logarithm", "probability"]
SOFTNESS = 0.15  # of masks from a map's order, as a share of its deviation


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: Adversarial = "bce") -> Tensor:
    """Loss of a discriminator whose logits are (B,), positive for real.

    Mean of both binary cross-entropies, or of ``relu(1 - real)`` and ``relu(1 + fake)``.
    """
    if kind == "hinge":
        return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return (real + fake) / 2


def generator_loss(fake_logits: Tensor, kind: Adversarial = "bce") -> Tensor:
    """Loss of a generator whose maps get these logits (B,): the non-saturating form of either kind."""
    if kind == "hinge":
        return -fake_logits.mean()
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of real and fake pairs (B,) each that the logits put on the right side."""
    return ((real_logits > 0).float().mean() + (fake_logits <= 0).float().mean()) / 2


def contrastive_loss(
    explained: Tensor,
    originals: Tensor,
    complements: Tensor,
    classes: Tensor,
    other_classes: Tensor,
    temperature: float = 0.1,
    repel_complements: bool = True,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020) in the CNN's own embedding.

    An explained image is attracted by the originals and the other explained images of its class, and repelled
    by those of other classes and by all complements. One exception: the complement of a mosaic rightly shows
    the class that was not asked for, and does not repel explanations of that class.

    Args:
        explained, complements: (B, D) embeddings.
        originals: (B, D) of the images that were explained; of a mosaic, of its asked part alone.
        classes: (B,) the class that each explanation is asked for.
        other_classes: (B,) the class that a complement rightly shows, -1 where there is none.
        temperature: of the cosine similarities.
        repel_complements: off for an ablation.
    """
    embeddings = torch.cat([explained, originals, complements])  # (3B, D)
    same = classes[:, None] == classes[None, :]  # (B, B)
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    repels = (classes[:, None] != other_classes[None, :]) & repel_complements
    nothing = torch.zeros_like(same)
    positive = torch.cat([same & ~itself, same, nothing], dim=1)  # (B, 3B)
    negative = torch.cat([~same, ~same, repels], dim=1)
    pairs = (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))
    loss: Tensor = SupConLoss(temperature)(embeddings, indices_tuple=pairs)
    return loss


def fidelity_loss(
    explained_logits: Tensor,
    complement_logits: Tensor,
    classes: Tensor,
    complement_weight: float = 1.0,
    exclusive: bool = True,
    kind: Fidelity = "logarithm",
) -> Tensor:
    """``mean(-log p_c(explained)) + w mean(-log(1 - p_c(complement)))`` for logits (B, K), classes c (B,).

    p is the softmax of the logits, of labels that do not exclude each other (``exclusive=False``) the
    sigmoid. Of the kind ``probability`` it is ``mean(1 - p_c(explained)) + w mean(p_c(complement))``: of
    masks at uniformly drawn areas, with w = 1, the mean is 1 minus the area between the insertion and the
    deletion curve (Petsiuk et al., BMVC 2018).
    """
    if kind == "probability":
        shown, hidden = (
            (own.softmax(1) if exclusive else own.sigmoid()).gather(1, classes[:, None]).mean()
            for own in (explained_logits, complement_logits)
        )
        return 1 - shown + complement_weight * hidden
    own = complement_logits.gather(1, classes[:, None])[:, 0]  # (B,)
    if not exclusive:
        shown = F.softplus(-explained_logits.gather(1, classes[:, None])[:, 0]).mean()  # -log p
        return shown + complement_weight * F.softplus(own).mean()
    shown = F.cross_entropy(explained_logits, classes)
    others = complement_logits.scatter(1, classes[:, None], -torch.inf).logsumexp(1)
    hidden = F.softplus(own - others).mean()  # -log(1 - p) = softplus(own - others)
    return shown + complement_weight * hidden


def area_loss(maps: Tensor, low: float, high: float) -> Tensor:
    """Squared distance of each map's mean (B, 1, H, W) from the band [low, high], relative to it.

    Zero inside the band, so that it leaves the right area to the image. A penalty on the area itself
    ends in maps of nothing or of everything.
    """
    area = maps.mean((1, 2, 3))  # (B,)
    return (F.relu(low - area) / low).square().mean() + (F.relu(area - high) / high).square().mean()


def total_variation(maps: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of maps (B, 1, H, W), down and across."""
    down = (maps[..., 1:, :] - maps[..., :-1, :]).abs().mean()
    across = (maps[..., 1:] - maps[..., :-1]).abs().mean()
    return down + across


def mask_of_area(logits: Tensor, area: Tensor) -> Tensor:
    """Soft masks (B, 1, H, W) of given areas from the order of a map's pixels, differentiable.

    ``sigmoid((s - q) / t)`` of logits s (B, 1, H, W), where q is the image's quantile at its area (B,), 0..1,
    and t a share of the deviation of s, so that only the ranking counts, and no scaling or shifting of s.
    """
    flat = logits.flatten(1)  # (B, H * W)
    # Standardised within the graph: otherwise the gradient would keep shifting and scaling s.
    deviation = flat.std(1, keepdim=True) + 1e-3
    standard = (flat - flat.mean(1, keepdim=True)) / deviation  # (B, H * W)
    rank = ((1 - area) * (flat.shape[1] - 1)).long()  # (B,)
    quantile = standard.detach().sort(dim=1).values.gather(1, rank[:, None])  # (B, 1)
    return ((standard - quantile) / SOFTNESS).sigmoid().view_as(logits)


def saturation_loss(logits: Tensor, limit: float = 6.0) -> Tensor:
    """Mean squared excess of logits (B, ...) over +-limit: a saturated sigmoid neither learns nor ranks
    pixels."""
    return F.relu(logits.abs() - limit).square().mean()


def likeness_loss(logits: Tensor, others: Tensor, margin: float = 0.1) -> Tensor:
    """Mean excess over a margin of the correlation of maps with others of the same images, both as logits
    (B, 1, H, W): zero where they have nothing in common."""
    one, two = (own.flatten(1) - own.flatten(1).mean(1, keepdim=True) for own in (logits, others))
    return F.relu(F.cosine_similarity(one, two, dim=1) - margin).mean()
