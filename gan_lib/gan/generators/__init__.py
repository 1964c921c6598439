"""Networks of the GANs: LSFT and GSFT generators, and the discriminators."""

from gan_lib.gan.generators.conditioning import ConditionNetwork, FeatureConditions, MapConditions
from gan_lib.gan.generators.discriminators import (
    Discriminator,
    DiscriminatorSizes,
    ProjectionDiscriminator,
)
from gan_lib.gan.generators.layers import SLOPE, GeneratorSizes, SFTLayers, conv3x3
from gan_lib.gan.generators.transfer import transplanted
from gan_lib.gan.generators.variants import (
    GENERATORS,
    Generator,
    GSFTGenerator,
    LSFTGenerator,
    generator_recipe,
    make_generator,
    parameter_count,
)

__all__ = [
    "GENERATORS",
    "SLOPE",
    "ConditionNetwork",
    "Discriminator",
    "DiscriminatorSizes",
    "FeatureConditions",
    "GSFTGenerator",
    "Generator",
    "GeneratorSizes",
    "LSFTGenerator",
    "MapConditions",
    "ProjectionDiscriminator",
    "SFTLayers",
    "conv3x3",
    "generator_recipe",
    "make_generator",
    "parameter_count",
    "transplanted",
]
