"""Copies of a CNN that follow it: with batch normalisation folded into convolutions, or in another format."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import weight_of
from gan_lib.core.outputs import meaning_of

FOLDED = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)
FOLDING_ERROR = 1e-3  # of the scores' spread; rounding made 1e-6 of it, for slim, mobile and residual CNNs


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


def folded(cnn: nn.Module, size: tuple[int, int] | None = None) -> nn.Module | None:
    """A copy in eval mode with batch normalisation folded into the convolutions: the same scores, faster.

    Layers keep their names; a convolution's activation is then what the normalisation made of it. Where the
    CNN's weights change, the copy's do at its next pass (:func:`follow`).

    ``None`` for a CNN that torch.fx cannot trace, in which a convolution or a normalisation runs more than
    once (what is folded for one call would be wrong for another), or whose scores the copy does not reproduce
    on probe images of a size, by default :func:`example_size`.
    """
    bring_up_to_date(cnn)
    try:
        with torch.inference_mode(False), torch.no_grad():  # weights to be used anywhere
            copied = _fused(cnn)
            same = reproduces(copied, cnn, size or example_size(cnn))
    except Exception:  # whatever a CNN's own code does not bear: it runs as it is
        return None
    return follow(copied, cnn, _fused) if same else None


class _Tracer(fx.Tracer):
    """Traces a CNN down to its layers; subclasses of torch's layers are layers too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FOLDED) or super().is_leaf_module(m, module_qualified_name)


def traced_copy(cnn: nn.Module) -> fx.GraphModule:
    """A copy in eval mode as a graph of layers and functions, in which none with weights runs twice.

    Raises:
        NotImplementedError: a scripted CNN, or a convolution or normalisation that runs more than once.
        Exception: whatever torch.fx says of a CNN that it cannot trace.
    """
    if any(isinstance(own, torch.jit.ScriptModule) for own in cnn.modules()):
        raise NotImplementedError("a scripted CNN shows none of its layers")
    copied, tracer = copy.deepcopy(cnn).eval(), _Tracer()
    graph = tracer.trace(copied)
    traced = fx.GraphModule(tracer.root, graph)
    layers = [traced.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"]
    ran = [id(layer) for layer in layers if isinstance(layer, FOLDED)]
    if len(set(ran)) < len(ran):
        raise NotImplementedError("a layer with weights runs twice")
    return traced


def _fused(cnn: nn.Module) -> nn.Module:
    traced = traced_copy(cnn)
    fused: nn.Module = fuse(traced, inplace=True, no_trace=True)
    fused.output = meaning_of(cnn)  # type: ignore[assignment]
    return fused.to(memory_format=torch.channels_last).eval()


def reproduces(copied: nn.Module, cnn: nn.Module, size: tuple[int, int]) -> bool:
    """Whether a copy gives a CNN's scores for two noisy pictures, dark and light, within a thousandth of what
    these differ by over classes and pictures."""
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    pictures = (noise * torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)).to(weight_of(cnn))
    with evaluation_mode(cnn), torch.no_grad():
        scores, own = cnn(pictures).float(), copied(pictures).float()
    spread = float(scores.max() - scores.min())
    return scores.shape == own.shape and bool((scores - own).abs().max() <= FOLDING_ERROR * spread)


def example_size(cnn: nn.Module) -> tuple[int, int]:
    """Height and width of pictures that a CNN takes: those of its card, else 64, else 224.

    Raises:
        ValueError: it takes neither; the message holds its own error.
    """
    known = getattr(getattr(cnn, "card", None), "image_size", None)
    sizes: tuple[tuple[int, int], ...] = (known,) if known else ((64, 64), (224, 224))
    example, problem = weight_of(cnn), ""
    for size in sizes:
        try:
            with evaluation_mode(cnn), torch.no_grad():
                cnn(torch.zeros(2, 3, *size).to(example))
            return size
        except Exception as error:  # the CNN's own: a size that it does not take
            problem = f"{type(error).__name__}: {error}"
    raise ValueError(f"the CNN takes no pictures of {' or '.join(f'{h} x {w}' for h, w in sizes)}: {problem}")


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
