"""Generators of arXiv 2301.08067: images and conditions in, maps out.

Spatial feature transform (SFT) layers modulate features by a condition (Wang et al., CVPR 2018).
LSFT feeds the conditions one after the other into successive blocks; GSFT feeds one condition, made
from all of them, into every block. The paper's sizes are the defaults.

A generator of one's own is a subclass that says what its body does with the features of the stem and the
processed conditions. Once it is registered, it is trained, saved, loaded and named in recipes as these are:

    @GENERATORS.register("adding")
    class AddingGenerator(Generator):
        shared = True    # processed conditions are (B, Q, h, w); one each, (B, n * Q, h, w), otherwise

        def __init__(self, sizes: GeneratorSizes | None = None) -> None:
            super().__init__(sizes)
            self.mix = conv3x3(self.sizes.condition_channels, self.sizes.width)

        def body(self, features: Tensor, conditions: Tensor) -> Tensor:
            return features + self.mix(conditions)    # (B, C, h, w)

    generator = make_generator("adding", conditions=3, stem_stride=4)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.core.checksums import DamagedError, is_there, write_checksums
from gan_lib.core.registry import Registry
from gan_lib.core.storage import load_tensors, read_json, save_tensors, write_json
from gan_lib.gan.generators.conditioning import (
    Adapter,
    FeatureConditions,
    MapConditions,
    emphasised,
    projections,
)
from gan_lib.gan.generators.layers import (
    SLOPE,
    GeneratorSizes,
    PlainBlock,
    SFTBlock,
    SFTLayers,
    conv3x3,
    quieten,
    resize,
    stem_conv,
)

GENERATORS: Registry[type[Generator]] = Registry("generator")
QUIET = 0.1  # of the weights that draw the logits, where there is a prior
LEAST = 1e-3  # that a condition counts for in it: none is turned inside out
_BY_CLASS: dict[str, type[Generator]] = {}  # every subclass, by which those that nobody registered are found


class Generator(nn.Module):
    """What all variants share: stem, modulated body, global residual, output.

    A variant sets ``shared`` and overrides :meth:`body`.
    """

    shared: bool  # one condition made from all, or one each

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _BY_CLASS[cls.__name__] = cls  # the latest counts, as when a notebook's cell runs again

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or GeneratorSizes()
        self.stem = stem_conv(3, sizes.width, sizes.stem_stride)
        self.condition_network = (FeatureConditions if sizes.features else MapConditions)(sizes, self.shared)
        self.closing = conv3x3(sizes.width, sizes.width)
        self.contrast = Contrast(*sizes.contrast) if sizes.features else None
        self.output = DetailBranch(sizes) if sizes.detail else CoarseOutput(sizes)
        if sizes.prior:
            if not sizes.features:
                raise ValueError("the prior is made of evidence conditions: maps have none")
            drawn = self.output.output if isinstance(self.output, DetailBranch) else self.output
            with torch.no_grad():
                drawn.weight.mul_(QUIET)
        self.prior_weights: nn.Parameter | None = None
        if sizes.emphasis is not None:
            self.prior_weights = nn.Parameter(torch.tensor(emphasised(sizes.conditions, sizes.emphasis)))

    def body(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Features (B, C, h, w) of the stem, modulated by processed conditions (B, n * Q, h, w)."""
        raise NotImplementedError

    def prepare(self, activations: Sequence[Tensor]) -> None:
        """Standardise activations (B, C, h, w) from now on as these; one conditioned on maps raises
        ``ValueError``."""
        network, output = self.condition_network, self.output
        if not isinstance(network, FeatureConditions):
            raise ValueError("this generator is conditioned on maps, not on activations")
        for adapter, activation in zip(network.adapters, activations, strict=True):
            adapter.calibrate(activation)  # type: ignore[operator]
        if isinstance(output, DetailBranch) and output.finest is not None:
            output.finest.calibrate(activations[0])

    def logits(self, images: Tensor, conditions: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, 1, H, W) of the maps; arguments, and ``ValueError``, as for :meth:`forward`."""
        stride, size = self.sizes.stem_stride, images.shape[-2:]
        if any(side % stride for side in size):
            raise ValueError(f"image size {tuple(size)} is no multiple of the stem's stride {stride}")
        processed = self.condition_network(conditions, images)
        grey = torch.full_like(images, 0.5)
        stem = self.stem(images if self.sizes.image == "whole" else grey)  # (B, C, h, w)
        features = F.leaky_relu(stem + self.closing(self.body(stem, processed)), SLOPE)
        seen = grey if self.sizes.image == "none" else images
        logits: Tensor = self.output(seen, features, conditions)
        if self.sizes.prior:
            assert not isinstance(conditions, Tensor)
            own = self.prior_weights
            weights = None if own is None else own.clamp(min=LEAST)
            logits = logits + projections(conditions, (size[0], size[1]), weights, self.sizes.joint)
        return logits if self.contrast is None else self.contrast(logits)

    def forward(self, images: Tensor, conditions: Tensor | Sequence[Tensor]) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1] of images (B, 3, H, W) in [0, 1].

        Args:
            images: of a size that the stem's stride divides, or ``ValueError`` is raised.
            conditions: maps (B, n, H, W), or for a generator with ``sizes.features`` the n activations
                (B, C_l, H_l, W_l); others than the generator was made for raise ``ValueError``.
        """
        return self.logits(images, conditions).sigmoid()


class Contrast(nn.Module):
    """Logits of every image standardised, then scaled and shifted by two learned numbers.

    Without a map to learn from, a map that is the same everywhere is a minimum that training falls
    into; here none is flat.
    """

    def __init__(self, scale: float = 3.0, shift: float = -3.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, 1, H, W) to the same."""
        deviation, mean = torch.std_mean(logits, dim=(1, 2, 3), keepdim=True)
        return self.scale * (logits - mean) / (deviation + 1e-3) + self.shift


class CoarseOutput(nn.Conv2d):
    """Logits drawn at the features' size and scaled up to the image's."""

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__(sizes.width, 1, 3, padding=1)

    def forward(  # type: ignore[override]
        self, images: Tensor, features: Tensor, conditions: Tensor | Sequence[Tensor]
    ) -> Tensor:
        """Logits (B, 1, H, W) of images (B, 3, H, W) and features (B, C, h, w)."""
        return resize(super().forward(features), images.shape[-2:])


class DetailBranch(nn.Module):
    """Logits drawn at half the image's size, led by the coarse features.

    What a coarse stem loses comes from the image and, where the conditions are activations, from the
    first of them, the finest, at its own size.
    """

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__()
        channels = sizes.detail
        self.fine = stem_conv(3, channels, 2)
        self.finest = Adapter(sizes.features[0], channels) if sizes.features else None
        self.coarse = nn.Conv2d(sizes.width, channels, 1)
        self.joint = conv3x3(channels, channels)
        self.output = conv3x3(channels, 1)

    def forward(self, images: Tensor, features: Tensor, conditions: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, 1, H, W) of images (B, 3, H, W) and features (B, C, h, w)."""
        fine = self.fine(images)  # (B, C', H / 2, W / 2)
        if self.finest is not None:
            fine = fine + self.finest(conditions[0], fine.shape[-2:])
        joined = F.leaky_relu(fine + resize(self.coarse(features), fine.shape[-2:]), SLOPE)
        logits = self.output(F.leaky_relu(self.joint(joined), SLOPE))  # (B, 1, H / 2, W / 2)
        return resize(logits, images.shape[-2:])


@GENERATORS.register("lsft")
class LSFTGenerator(Generator):
    """Local conditioning: 2n - 1 blocks; the even ones take condition 0, 1, ..., n - 1 in turn."""

    shared = False

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__(sizes)
        width, count = self.sizes.width, self.sizes.conditions
        self.transforms = SFTLayers(count, self.sizes, shared=False)
        self.sft_blocks = nn.ModuleList(SFTBlock(width) for _ in range(count))
        self.plain_blocks = nn.ModuleList(PlainBlock(width) for _ in range(count - 1))
        quieten([*self.sft_blocks, *self.plain_blocks])

    def body(self, features: Tensor, conditions: Tensor) -> Tensor:
        for index, (scale, shift) in enumerate(self.transforms(conditions)):
            if index > 0:
                features = self.plain_blocks[index - 1](features)
            features = self.sft_blocks[index](features, scale, shift)
        return features


@GENERATORS.register("gsft")
class GSFTGenerator(Generator):
    """Global conditioning: every block, and a closing SFT layer, take one condition made from all."""

    shared = True

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__(sizes)
        # The last transform closes the body; every other one belongs to a block.
        self.transforms = SFTLayers(self.sizes.blocks + 1, self.sizes, shared=True)
        self.sft_blocks = nn.ModuleList(SFTBlock(self.sizes.width) for _ in range(self.sizes.blocks))
        quieten([*self.sft_blocks])

    def body(self, features: Tensor, conditions: Tensor) -> Tensor:
        *modulations, (scale, shift) = self.transforms(conditions)
        for block, modulation in zip(self.sft_blocks, modulations, strict=True):
            features = block(features, *modulation)
        return features * (1 + scale) + shift


def make_generator(variant: str, **sizes: Any) -> Generator:
    """A generator by variant; ``sizes`` are the fields of :class:`GeneratorSizes`.

        maps = make_generator("lsft", width=32, stem_stride=4)(images, cgma)    # (B, 1, H, W)

    Args:
        variant: a name in ``GENERATORS``, or the class name of another subclass of :class:`Generator`; an
            unknown one raises ``KeyError``.
    """
    # The exact name of a class first: GENERATORS takes ``LSFT`` for ``lsft``.
    kind = _BY_CLASS.get(variant) or GENERATORS[variant]
    # JSON has lists only.
    sizes |= {name: tuple(sizes[name]) for name in ("features", "contrast") if name in sizes}
    return kind(GeneratorSizes(**sizes))


def generator_recipe(generator: Generator) -> dict[str, Any]:
    """Variant and sizes, from which :func:`make_generator` builds the same generator again.

    A class that nobody registered goes by its own name, not by that of the class it was made from.
    """
    kind = type(generator)
    return {"variant": GENERATORS.name_of(kind) or kind.__name__, **asdict(generator.sizes)}


def save_generator(generator: Generator, folder: Path) -> None:
    """Write weights (safetensors) and recipe (JSON) to a folder."""
    save_tensors(folder / "generator.safetensors", generator.state_dict())
    write_json(folder / "generator.json", generator_recipe(generator))
    write_checksums(folder, ["generator.safetensors", "generator.json"])


def load_generator(folder: Path) -> Generator:
    """Read a generator written by :func:`save_generator`, in eval mode.

    Raises:
        FileNotFoundError: no generator there.
        ValueError: its files are not what was written.
    """
    if not is_there(folder / "generator.json"):
        raise FileNotFoundError(f"no generator at {folder}")
    path, weights = folder / "generator.json", folder / "generator.safetensors"
    try:
        generator = make_generator(**read_json(path))
    except DamagedError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} is not what save_generator writes: {error}") from None
    state = load_tensors(weights)
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{weights} holds weights of another generator than {path.name}: {error}") from None
    return generator.eval()


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
    known = generator.sizes.features
    if not known:
        raise ValueError("a generator that is conditioned on maps fits every CNN: there is nothing to adapt")
    if len(features) != len(known):
        raise ValueError(f"the generator takes {len(known)} conditions, not {len(features)}")
    fresh = copy.deepcopy(generator).requires_grad_(False)
    fresh.sizes = replace(fresh.sizes, features=tuple(features))
    network, output = fresh.condition_network, fresh.output
    assert isinstance(network, FeatureConditions)
    network.sizes = fresh.sizes
    for index, channels in enumerate(features):
        if index < len(known) - 1 or channels != known[index]:
            network.adapters[index] = Adapter(channels, fresh.sizes.condition_channels)
    if isinstance(output, DetailBranch) and output.finest is not None:
        output.finest = Adapter(features[0], fresh.sizes.detail)
    return fresh


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
