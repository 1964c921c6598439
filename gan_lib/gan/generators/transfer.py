"""A generator that explains one CNN, made ready for another: fresh adapters, all else kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from gan_lib.gan.generators.conditioning import Adapter, FeatureConditions
from gan_lib.gan.generators.variants import DetailBranch, Generator


def transplanted(generator: Generator, features: Sequence[int]) -> Generator:
    """A copy of a generator for another CNN's activations, in which only the adapters can be trained.

        maker = FeatureMaker(other_cnn, (64, 64), count=3)
        fresh = transplanted(generator, maker.channels)
        train_contrastive(fresh, critic, maker, images, folder, ContrastiveOptions(max_steps=100))

    The adapters of the CNN's layers start anew. That of the last condition, the evidence for the class,
    means the same for every CNN and is kept where its channels are as many.

    Args:
        generator: one that is conditioned on activations; it is left as it is.
        features: the channels of the other CNN's conditions.

    Raises:
        ValueError: a generator that is conditioned on maps, or another number of conditions.
    """
    if not isinstance(generator.condition_network, FeatureConditions):
        raise ValueError(
            "this generator is conditioned on maps, which fit every CNN: there is nothing to adapt"
        )
    count = len(generator.sizes.features)
    if len(features) != count:
        raise ValueError(f"the generator takes {count} conditions, not {len(features)}")
    fresh = copy.deepcopy(generator).requires_grad_(False)
    fresh.sizes = replace(fresh.sizes, features=tuple(features))
    network = fresh.condition_network
    assert isinstance(network, FeatureConditions)
    network.sizes = fresh.sizes
    width = fresh.sizes.condition_channels
    for index, channels in enumerate(features):
        if index < count - 1 or channels != generator.sizes.features[index]:
            network.adapters[index] = Adapter(channels, width)
    if isinstance(fresh.output, DetailBranch) and fresh.output.finest is not None:
        fresh.output.finest = Adapter(features[0], fresh.sizes.detail)
    return fresh
