"""Networks of the GANs: LSFT and GSFT generators, and the discriminators."""

from gan_lib.gan.generators.conditioning import emphasised, projections
from gan_lib.gan.generators.discriminators import (
    DISCRIMINATORS,
    Discriminator,
    DiscriminatorSizes,
    PairDiscriminator,
    ProjectionDiscriminator,
    PublishedDiscriminator,
)
from gan_lib.gan.generators.layers import GeneratorSizes, Joint, conv3x3
from gan_lib.gan.generators.variants import (
    GENERATORS,
    Generator,
    GSFTGenerator,
    LSFTGenerator,
    generator_recipe,
    load_generator,
    make_generator,
    parameter_count,
    save_generator,
    transplanted,
)

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "Discriminator",
    "DiscriminatorSizes",
    "GSFTGenerator",
    "Generator",
    "GeneratorSizes",
    "Joint",
    "LSFTGenerator",
    "PairDiscriminator",
    "ProjectionDiscriminator",
    "PublishedDiscriminator",
    "conv3x3",
    "emphasised",
    "generator_recipe",
    "load_generator",
    "make_generator",
    "parameter_count",
    "projections",
    "save_generator",
    "transplanted",
]
