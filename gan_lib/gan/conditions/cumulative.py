"""Cumulative Grad-CAM averages, CGMA (arXiv 2301.08067, section 3).

In the order of depth, CGMA_k is the mean of the first k layers' Grad-CAMs. The published method
feeds CGMAs up to the last layer, whose Grad-CAM is also the target: the target can then be read off
by a subtraction (:func:`linear_readout`). Hence two settings: ``cgma`` averages only the layers before the
target's, it is leak-free; ``published`` includes it.

Conditions of one's own are a subclass of :class:`ConditionMaker` that overrides one method. Once registered,
they are a value of a recipe, ``gan.conditions: first_cams``:

    @CONDITIONS.register("first_cams")
    class FirstGradCAMs(ConditionMaker):
        def conditions(self, images: Tensor, maps: Tensor, explained: Tensor) -> Tensor:
            return maps[:, : self.count]    # (B, n, H, W) in [0, 1]

    maker = condition_maker("first_cams", cnn, (64, 64), count=4)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gan_lib.core.capture import layers_in_order, spread_positions
from gan_lib.core.grad_cam import grad_cam
from gan_lib.core.inputs import weight_of
from gan_lib.core.outputs import probabilities
from gan_lib.core.registry import Registry


def cumulative_average(maps: Tensor) -> Tensor:
    """CGMAs (B, L, H, W) of maps (B, L, H, W): channel k is the mean of channels 0..k."""
    counts = torch.arange(1, maps.shape[1] + 1, device=maps.device).view(1, -1, 1, 1)
    return maps.cumsum(1) / counts


def linear_readout(cgma: Tensor, positions: Sequence[int]) -> Tensor:
    """The last layers' mean Grad-CAM (B, 1, H, W), read off the last two of n CGMAs (B, n, H, W).

    ``(k_n CGMA_n - k_(n-1) CGMA_(n-1)) / (k_n - k_(n-1))``, with ``k``, the positions, the number of layers
    averaged. When the last two are neighbours and the last is the target's layer (``published``), this is the
    target exactly; it is the control that a learned generator must be compared with.

    Raises:
        ValueError: fewer than two CGMAs, or another number of positions.
    """
    if not 2 <= cgma.shape[1] == len(positions):
        raise ValueError(f"two CGMAs or more are read off, not {cgma.shape[1]} at {list(positions)}")
    before, last = positions[-2], positions[-1]
    total = last * cgma[:, -1:] - before * cgma[:, -2:-1]  # (B, 1, H, W)
    return (total / (last - before)).clamp(0, 1)


@dataclass(frozen=True)
class Conditions:
    """What a generator sees and should give, for a batch.

    Attributes:
        cgma: the conditions (B, n, H, W) in [0, 1]; CGMAs in the order of depth, or another kind.
        grad_cams: (B, n, H, W) in [0, 1], the Grad-CAM of the layer at each condition's position.
        target: (B, 1, H, W) in [0, 1], Grad-CAM of the last convolution.
        explained: (B,) the class that all of them explain.
        probability: (B,) the CNN's probability of that class, 0..1.
    """

    cgma: Tensor
    grad_cams: Tensor
    target: Tensor
    explained: Tensor
    probability: Tensor


CONDITIONS: Registry[Callable[..., ConditionMaker]] = Registry("kind of conditions")


def condition_maker(
    conditions: str, cnn: nn.Module, image_size: tuple[int, int], count: int = 8, **settings: Any
) -> ConditionMaker:
    """What makes conditions of a kind in ``CONDITIONS``; arguments as for :class:`ConditionMaker`.

        condition_maker("last_grad_cam", cnn, (64, 64))
        condition_maker("planted/3", cnn, (64, 64))    # the kind's place is 3

    Raises:
        KeyError: an unknown kind.
        ValueError: what the kind does not take.
    """
    kind, slash, place = conditions.partition("/")
    if slash:
        if not place.isdecimal():
            raise ValueError(f"conditions are a name, or a name/place, not {conditions!r}")
        settings["place"] = int(place)
    return CONDITIONS[kind](cnn, image_size, count, **settings)


@CONDITIONS.register("cgma")
class ConditionMaker:
    """Conditions and target for batches of images, from one pass over the CNN: CGMAs.

        ConditionMaker(cnn, (64, 64))(images).cgma    # (B, 8, 64, 64)

    Args:
        cnn: the CNN to be explained.
        image_size: height and width that the CNN is used at.
        count: number n of conditions, spread over the depth (:func:`gan_lib.core.capture.spread_positions`);
            a CNN with fewer layers gets as many as it has, and a warning says so.
        leak_free: use only the layers before the target's; ``False`` is the published setting.
        layers: in the order of depth, the last one the target's; by default all convolutions as they run.

    Raises:
        ValueError: no condition, or no layer for one.
    """

    def __init__(
        self,
        cnn: nn.Module,
        image_size: tuple[int, int],
        count: int = 8,
        leak_free: bool = True,
        layers: Sequence[str] | None = None,
    ) -> None:
        if layers is None:
            device = weight_of(cnn).device
            layers = layers_in_order(cnn, torch.zeros(1, 3, *image_size, device=device), with_places=True)
        self.cnn, self.image_size, self.leak_free = cnn, image_size, leak_free
        self.layers = list(layers)
        usable = len(self.layers) - leak_free
        setting = "before the target's layer" if leak_free else "in all"
        if usable < 1:
            raise ValueError(f"conditions need layers; there are 0 {setting}")
        if usable < count:
            told = f"{usable} conditions instead of {count}: so many layers are there {setting}"
            warnings.warn(told, stacklevel=2)
        self.positions = spread_positions(usable, min(count, usable))

    @property
    def count(self) -> int:
        """Number n of conditions."""
        return len(self.positions)

    @property
    def kind(self) -> str:
        """Name in ``CONDITIONS``; of a class that nobody registered its own."""
        return CONDITIONS.name_of(type(self)) or type(self).__name__

    def settings(self) -> dict[str, Any]:
        """JSON values from which :func:`condition_maker` makes the same, given CNN and image size."""
        own = {"count": self.count, "leak_free": self.leak_free, "layers": self.layers}
        return {"conditions": self.kind, **own}

    def conditions(self, images: Tensor, maps: Tensor, explained: Tensor) -> Tensor:
        """The conditions (B, n, H, W) in [0, 1] of images (B, 3, H, W); other kinds override this.

        They are made of maps (B, L, H, W) in [0, 1], Grad-CAMs of all ``layers`` for the explained classes
        (B,); the last map is the target.
        """
        return self.at_positions(cumulative_average(maps))

    def at_positions(self, maps: Tensor) -> Tensor:
        """Of maps (B, L, H, W) of all layers those at the conditions' positions, (B, n, H, W)."""
        return maps[:, [position - 1 for position in self.positions]]

    def __call__(self, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Conditions:
        """Conditions of images (B, 3, H, W); ``target`` as in :func:`grad_cam`.

        Raises:
            ValueError: a kind that makes another number or size of conditions than it says.
        """
        cams = grad_cam(self.cnn, images, self.layers, target)
        maps = cams.maps(self.image_size)  # (B, L, H, W)
        given = self.conditions(images, maps, cams.target)
        if given.shape != (expected := (len(images), self.count, *self.image_size)):
            raise ValueError(f"{self.kind} makes conditions {tuple(given.shape)}, not {expected}")
        probability = probabilities(self.cnn, cams.logits).gather(1, cams.target[:, None])[:, 0]  # (B,)
        return Conditions(given, self.at_positions(maps), maps[:, -1:], cams.target, probability)


CONDITIONS.register("published", partial(ConditionMaker, leak_free=False))
