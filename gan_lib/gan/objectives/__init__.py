"""What the networks are trained for: adversarial, reconstruction and contrastive objectives."""

from gan_lib.gan.objectives.adversarial import (
    Adversarial,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
)
from gan_lib.gan.objectives.contrastive import (
    area_loss,
    contrastive_loss,
    fidelity_loss,
    mask_of_area,
    saturation_loss,
    total_variation,
)

__all__ = [
    "Adversarial",
    "area_loss",
    "contrastive_loss",
    "discriminator_accuracy",
    "discriminator_loss",
    "fidelity_loss",
    "generator_loss",
    "mask_of_area",
    "saturation_loss",
    "total_variation",
]
