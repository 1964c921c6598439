"""A CNN with its normalisation inside, so that every caller works in pixel space."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to build a classifier again, apart from its weights.

    Attributes:
        architecture: name for :func:`gan_lib.classifiers.make_classifier`.
        class_names: one name per logit.
        head: ``linear`` or ``published``.
        mean, std: normalisation per channel, for images in [0, 1].
        image_size: height and width in pixels that it was trained at; ``None`` where that is not known.
        output: what the CNN's outputs mean.
        select: which of several outputs is meant, by place, key or field.
    """

    architecture: str
    class_names: tuple[str, ...]
    head: str = "linear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: tuple[int, int] | None = None
    output: str = "logits"
    select: str | int | None = None


class Classifier(nn.Module):
    """A CNN that takes images in [0, 1] and returns logits.

    Args:
        backbone: module from normalised images (B, 3, H, W) to logits (B, K).
        card: how it was made; its ``mean`` and ``std`` are applied before the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.backbone, self.card = backbone, card
        self.register_buffer("mean", torch.tensor(card.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(card.std).view(1, 3, 1, 1), persistent=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.card.class_names

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [0, 1]."""
        logits: Tensor = self.backbone((images - self.mean) / self.std)
        return logits


def follow(copied: nn.Module, source: nn.Module, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Let a copy of a module take over, before each of its passes, what the module's weights have become.

        quick = follow(half(cnn), cnn, half)    # half makes such a copy

    The weights are compared value by value, since no counter tells of a write to ``.data``: for slim_vgg
    0.2 ms, where a pass takes 1 ms for one image and 14 ms for 32 (one core). That takes another copy of the
    weights in memory. The copy keeps its own device and number format. A copy of it follows nothing.

    A source that follows another itself is brought up to date first. Where it has got other layers, a pass of
    the copy raises ``RuntimeError``.
    """
    copied.register_forward_pre_hook(_Follower(source, make))
    return copied


class _Follower:
    def __init__(self, source: nn.Module, make: Callable[[nn.Module], nn.Module]) -> None:
        self.source, self.make = source, make
        self._remember()

    def _remember(self) -> None:
        self._modules = [*self.source.modules()]
        self._weights = [tensor.detach().clone() for tensor in _tensors(self._modules)]

    def __call__(self, copied: nn.Module, inputs: object = None) -> None:
        bring_up_to_date(self.source)
        modules = [*self.source.modules()]
        if modules == self._modules and _equal(_tensors(modules), self._weights):
            return
        with torch.inference_mode(False), torch.no_grad():
            made = self.make(self.source)
            old, new = _tensors(copied.modules()), _tensors(made.modules())
            if repr(made) != repr(copied) or [own.shape for own in old] != [own.shape for own in new]:
                raise RuntimeError("the CNN has other layers than when it was copied: make a new copy")
            for own, other in zip(old, new, strict=True):
                own.copy_(other)
            self._remember()


def bring_up_to_date(copied: nn.Module) -> None:
    """Let a copy that follows a module take over its weights, as before each of its passes."""
    for hook in copied._forward_pre_hooks.values():
        if isinstance(hook, _Follower):
            hook(copied)


def folded(cnn: nn.Module) -> nn.Module | None:
    """A copy in eval mode with batch normalisation folded into the convolutions: the same logits, faster.

    Layers keep their names; a convolution's activation is then what the normalisation made of it. Where the
    CNN's weights change, the copy's do at its next pass (:func:`follow`). ``None`` for a CNN that torch.fx
    cannot trace.
    """
    bring_up_to_date(cnn)
    try:
        with torch.inference_mode(False), torch.no_grad():  # weights to be used anywhere
            copied = _fused(cnn)
    except (torch.fx.proxy.TraceError, NotImplementedError, TypeError, RuntimeError):
        return None
    return follow(copied, cnn, _fused)


def _fused(cnn: nn.Module) -> nn.Module:
    fused: nn.Module = fuse(copy.deepcopy(cnn).eval(), inplace=True)
    return fused.to(memory_format=torch.channels_last).eval()


def _tensors(modules: Iterable[nn.Module]) -> list[Tensor]:
    # A third of the time that ``parameters()`` and ``buffers()`` take.
    kept = (held for own in modules for held in (own._parameters, own._buffers))
    return [tensor for held in kept for tensor in held.values() if tensor is not None]


def _equal(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    kinds, known = ([(own.shape, own.device, own.dtype) for own in held] for held in (tensors, others))
    if kinds != known:
        return False
    if all(own.is_cpu for own in tensors):
        return all(map(torch.equal, tensors, others))
    # One answer to wait for, and not one for every tensor.
    return not torch.stack([(own != other).any() for own, other in zip(tensors, others, strict=True)]).any()
