"""Gradients that pass nonlinearities by rules of their own: DeepLift and guided back-propagation.

Captum sets hooks on modules, and is wrong, or refuses, where a module runs twice (the ReLUs of torchvision's
ResNets), works in place, or is no module at all but a function (Inception, DenseNet). Here every
*application* of a nonlinearity within a block follows the rule: of ReLU, ReLU6, leaky ReLU, ELU, SELU, CELU,
SiLU, GELU, Mish, softplus, sigmoid, tanh, their hard forms, and two-dimensional max-pooling. Others pass
plain gradients. The CNN stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gan_lib.core.capture import Capture

Function = Callable[..., Tensor]
IN_PLACE: dict[Function, Function] = {
    torch.relu_: torch.relu,
    Tensor.relu_: torch.relu,
    torch.sigmoid_: torch.sigmoid,
    Tensor.sigmoid_: torch.sigmoid,
    torch.tanh_: torch.tanh,
    Tensor.tanh_: torch.tanh,
}
RECTIFIERS = (F.relu, F.relu6, torch.relu, Tensor.relu)
# What is intercepted, with the names of its arguments where it has more than one.
ARGUMENTS: dict[Function, tuple[str, ...]] = {
    **dict.fromkeys((torch.relu, Tensor.relu, torch.sigmoid, Tensor.sigmoid), ("input",)),
    **dict.fromkeys((torch.tanh, Tensor.tanh, *IN_PLACE), ("input",)),
    **dict.fromkeys((F.relu, F.relu6, F.silu, F.mish, F.selu), ("input", "inplace")),
    **dict.fromkeys((F.hardswish, F.hardsigmoid), ("input", "inplace")),
    **dict.fromkeys((F.elu, F.celu), ("input", "alpha", "inplace")),
    F.gelu: ("input", "approximate"),
    F.leaky_relu: ("input", "negative_slope", "inplace"),
    F.hardtanh: ("input", "min_val", "max_val", "inplace"),
    F.softplus: ("input", "beta", "threshold"),
    F.max_pool2d: ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
}


@dataclass(frozen=True)
class Applied:
    """One application of a nonlinearity: the function, its other arguments, what it took and what it gave."""

    function: Function
    arguments: dict[str, Any]
    taken: Tensor
    given: Tensor


# From one application, the gradient of what it took and that of what it gave, to the former as it goes on.
Rule = Callable[[Applied, Tensor, Tensor], Tensor]


class ruled(TorchFunctionMode):  # noqa: N801  a block: ``with ruled(guided): ...``
    """Within the block, nonlinearities that run will pass gradients by a rule.

    with ruled(guided):
        logits = cnn(images)
    (gradient,) = torch.autograd.grad(logits[:, 3].sum(), images)
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in ARGUMENTS:
            return func(*args, **(kwargs or {}))
        arguments = dict(zip(ARGUMENTS[func], args, strict=False)) | (kwargs or {})
        in_place = arguments.pop("inplace", False) or func in IN_PLACE
        taken, function = arguments.pop("input"), IN_PLACE.get(func, func)
        inner = taken.clone() if in_place else taken.view_as(taken)  # with a gradient of its own
        outer = function(inner, **arguments)
        if isinstance(outer, Tensor) and outer.requires_grad:
            # Copies: what follows may change either in place.
            applied = Applied(function, arguments, inner.detach().clone(), outer.detach().clone())
            behind: list[Tensor] = []
            outer.register_hook(behind.append)
            inner.register_hook(lambda before: self.rule(applied, before, behind.pop()))
        return taken.copy_(outer) if in_place else outer


def check_rules(cnn: nn.Module, method: str) -> None:
    """A ValueError for a CNN whose nonlinearities cannot be given a rule: scripted, traced or exported."""
    for module in cnn.modules():
        exported = isinstance(module, fx.GraphModule) and any(
            isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes
        )
        if exported or isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{method} needs to see every nonlinearity, which a scripted, traced or exported CNN hides: "
                "wrap the module that it was made from"
            )


def guided(applied: Applied, before: Tensor, behind: Tensor) -> Tensor:
    """Gradients pass a ReLU or ReLU6 only where they are positive (Springenberg et al., 2015)."""
    clipped = applied.arguments.get("min_val") == 0  # what nn.ReLU6 calls is F.hardtanh
    return before.relu() if clipped or applied.function in RECTIFIERS else before


def rescaled(applied: Applied, before: Tensor, behind: Tensor, eps: float = 1e-10) -> Tensor:
    """DeepLift's rescale rule (Shrikumar et al., 2017), of images with their baselines behind them in the
    batch.

    The derivative becomes the difference of the outputs by that of the inputs, where that is not below
    ``eps``. Of a max-pooling, what a pixel contributes to *several* windows adds up, which it does not in
    Captum's rule, so that attributions sum to the difference of the logits for overlapping windows too
    (SqueezeNet).
    """
    (images, baselines), (given, reference) = applied.taken.chunk(2), applied.given.chunk(2)
    difference = torch.cat(2 * [images - baselines])  # (2B, C, H, W)
    if applied.function is not F.max_pool2d:
        change = behind * torch.cat(2 * [given - reference])
    else:
        larger = torch.maximum(given, reference)  # (B, C, h, w)
        moved = behind * torch.cat([larger - reference, given - larger])  # (2B, C, h, w)
        _, places = F.max_pool2d(applied.taken, **applied.arguments | {"return_indices": True})
        spread = torch.zeros_like(applied.taken).flatten(2)
        spread = spread.scatter_add(2, places.flatten(2), moved.flatten(2)).view_as(applied.taken)
        change = sum(spread.chunk(2)).repeat(2, 1, 1, 1)  # type: ignore[union-attr]
    return torch.where(difference.abs() < eps, before, change / difference)


class DeepLiftRule(Attribution):
    """Differences to a grey image, carried back by :func:`rescaled`; Captum's noise tunnel takes it.

    Args:
        cnn: in eval mode.
        layer: dotted name, of which attributions are asked; by default of the images.
        baseline: the grey, from 0 for black to 1 for white.
    """

    def __init__(self, cnn: nn.Module, layer: str | None = None, baseline: float = 0.0) -> None:
        super().__init__(cnn)
        self.cnn, self.layer, self.baseline = cnn, layer, baseline

    @log_usage()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Attributions of images (B, 3, H, W) or of their layer's activations, for classes (B,)."""
        own, reference, multipliers = self.multipliers(inputs, target)
        return (own - reference) * multipliers

    def multipliers(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images or their layer's activations (B, C, h, w), those of the grey, and what their difference
        counts for."""
        check_rules(self.cnn, "DeepLIFT")
        images = inputs.detach()
        both = torch.cat([images, torch.full_like(images, self.baseline)]).requires_grad_()  # (2B, 3, H, W)
        layers = [self.layer] if self.layer else []
        with torch.enable_grad(), Capture(self.cnn, layers) as captured, ruled(rescaled):
            score = self.cnn(both).gather(1, target.repeat(2)[:, None]).sum()  # no image knows of another
        wanted = captured[self.layer] if self.layer else both
        (multipliers,) = torch.autograd.grad(score, wanted)
        own, reference = wanted.detach().chunk(2)
        return own, reference, multipliers.chunk(2)[0]
