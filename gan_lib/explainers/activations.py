"""A CNN whose nonlinearities are modules of their own, one for each time that one is applied.

DeepLift and guided back-propagation change the gradient of every nonlinearity. Captum does so with
hooks on modules, and is wrong, or refuses, where a module runs twice (the ReLUs of torchvision's
ResNets), works in place, or is no module at all but a function (Inception, DenseNet). Here such a CNN
is copied, weights shared, and in the copy each *application* of a nonlinearity runs a module of its
own: of ReLU, ReLU6, leaky ReLU, ELU, SELU, CELU, SiLU, GELU, Mish, softplus, sigmoid, tanh, their hard
forms, and two-dimensional max-pooling. Others pass plain gradients. The CNN that is explained stays as
it is.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Self

import torch
from captum.attr._core import deep_lift
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gan_lib.core.capture import evaluation_mode

Function = Callable[..., Tensor]


class Application(nn.Module):
    """One application of a function to an activation.

    The function's other arguments are set before each call: Captum's hooks take one input only.
    """

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.arguments: dict[str, Any] = {}

    def forward(self, activation: Tensor) -> Tensor:
        return self.function(activation, **self.arguments)


class Rectifier(Application, nn.ReLU):
    """One application of a ReLU or ReLU6; guided back-propagation knows it as a ReLU."""


class Nonlinearity(Application):
    """One application of another nonlinearity."""


class MaxPool(Application):
    """One application of a max-pooling."""


def max_pool_rule(
    module: nn.Module,
    inputs: Tensor,
    outputs: Tensor,
    grad_input: Tensor,
    grad_output: Tensor,
    eps: float = 1e-10,
) -> Tensor:
    """DeepLift's multipliers of a max-pooling, in the form in which Captum asks for them.

    Unlike Captum's own rule this one adds up what a pixel contributes to *several* windows, so that
    attributions sum to the difference of the outputs for overlapping windows too (SqueezeNet,
    Inception).

    Args:
        module: the :class:`MaxPool`.
        inputs, outputs: (2B, C, H, W) and (2B, C, h, w), images first, their baselines behind.
        grad_input, grad_output: gradients of the same shapes.
        eps: a smaller difference to the baseline counts as none.
    """
    assert isinstance(module, MaxPool)
    pooled, reference = outputs.chunk(2)  # (B, C, h, w)
    larger = torch.maximum(pooled, reference)
    change = grad_output * torch.cat([larger - reference, pooled - larger])  # (2B, C, h, w)
    _, places = F.max_pool2d(inputs, **module.arguments | {"return_indices": True})
    spread = torch.zeros_like(inputs).flatten(2)
    spread = spread.scatter_add(2, places.flatten(2), change.flatten(2)).view_as(inputs)
    contribution = sum(spread.chunk(2)).repeat(2, 1, 1, 1)  # type: ignore[union-attr]
    images, baselines = inputs.chunk(2)
    difference = (images - baselines).repeat(2, 1, 1, 1)
    return torch.where(difference.abs() < eps, grad_input, contribution / difference)


# DeepLift's rescale rule holds for every element-wise nonlinearity; Captum looks it up by exact type.
RULES = {Rectifier: deep_lift.nonlinear, Nonlinearity: deep_lift.nonlinear, MaxPool: max_pool_rule}


# What is intercepted, and which module stands in its place, with which function, never in place.
_RELUS: dict[Function, Function] = dict.fromkeys(
    (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), torch.relu
)
_SIGMOIDS: dict[Function, Function] = dict.fromkeys(
    (torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_), torch.sigmoid
)
_TANHS: dict[Function, Function] = dict.fromkeys(
    (torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_), torch.tanh
)
_SAME = (
    *(F.silu, F.gelu, F.mish, F.elu, F.selu, F.celu, F.leaky_relu, F.softplus),
    *(F.hardswish, F.hardsigmoid, F.hardtanh),
)
KINDS: dict[Function, tuple[type[Application], Function]] = {
    **{called: (Rectifier, function) for called, function in (_RELUS | {F.relu6: F.relu6}).items()},
    **{called: (Nonlinearity, function) for called, function in (_SIGMOIDS | _TANHS).items()},
    **{function: (Nonlinearity, function) for function in _SAME},
    F.max_pool2d: (MaxPool, F.max_pool2d),
}
_PARAMETERS: dict[Function, tuple[str, ...]] = {
    **dict.fromkeys((F.relu, F.relu6, F.silu, F.mish), ("input", "inplace")),
    **dict.fromkeys((F.hardswish, F.hardsigmoid), ("input", "inplace")),
    F.gelu: ("input", "approximate"),
    F.selu: ("input", "inplace"),
    F.celu: ("input", "alpha", "inplace"),
    F.hardtanh: ("input", "min_val", "max_val", "inplace"),
    F.elu: ("input", "alpha", "inplace"),
    F.leaky_relu: ("input", "negative_slope", "inplace"),
    F.softplus: ("input", "beta", "threshold"),
    F.max_pool2d: ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
}


class OwnActivations(nn.Module):
    """A CNN in eval mode, sharing its weights, that applies every nonlinearity by a module of its own.

        copied = OwnActivations(cnn, images[:1])
        with own_rules():
            DeepLift(copied).attribute(images, target=3)    # also for torchvision's ResNets

    Args:
        cnn: any module from images to logits; left as it is.
        example: images (B, 3, H, W) for one forward pass, which counts the applications.

    Raises:
        ValueError: the copy does not give the CNN's logits.
    """

    def __init__(self, cnn: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.made_of = _parts(cnn)
        shared = chain(cnn.parameters(), cnn.buffers())
        self.cnn = copy.deepcopy(cnn, {id(tensor): tensor for tensor in shared}).eval()
        _replace_modules(self.cnn)
        self.applied = nn.ModuleList()
        counting = _Intercept(self.applied, grow=True)
        with torch.no_grad(), evaluation_mode(cnn):
            expected = cnn(example)
            with counting:
                made = self.cnn(example)
        if not torch.allclose(made, expected, rtol=1e-2, atol=1e-4 * float(expected.abs().max())):
            raise ValueError(
                "the CNN cannot be copied with nonlinearities of its own: it changes activations in place "
                "and goes on without the result"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W)."""
        with _Intercept(self.applied, grow=False):
            logits: Tensor = self.cnn(images)
        return logits

    def train(self, mode: bool = True) -> Self:
        """The copy stays in eval mode."""
        return super().train(False)


def own_activations(cnn: nn.Module, example: Tensor, copied: OwnActivations | None) -> OwnActivations:
    """A copy of a CNN that has been made, or a new one where the CNN has other modules or tensors by now.

    Weights that change in place need no new copy, since both share them.

    Args:
        cnn, example: as for :class:`OwnActivations`.
        copied: made before, if any.
    """
    parts = _parts(cnn)
    if copied and len(parts) == len(copied.made_of) and all(map(operator.is_, parts, copied.made_of)):
        return copied
    return OwnActivations(cnn, example)


def _parts(cnn: nn.Module) -> list[nn.Module | Tensor]:
    return [*cnn.modules(), *cnn.parameters(), *cnn.buffers()]


class _Intercept(TorchFunctionMode):
    """Within the block, the k-th application of a nonlinearity runs the k-th module."""

    def __init__(self, modules: nn.ModuleList, grow: bool) -> None:
        super().__init__()
        self.modules, self.grow, self.count = modules, grow, 0

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in KINDS:
            return func(*args, **(kwargs or {}))
        bound = dict(zip(_PARAMETERS.get(func, ("input",)), args, strict=False)) | (kwargs or {})
        activation = bound.pop("input")
        bound.pop("inplace", None)
        if self.grow:
            kind, function = KINDS[func]
            self.modules.append(kind(function))
        if self.count >= len(self.modules):
            raise RuntimeError("the CNN applies more nonlinearities than to the example it was copied with")
        applied = self.modules[self.count]
        assert isinstance(applied, Application)
        self.count += 1
        applied.arguments = bound
        # A tensor of its own: where a ReLU's output is what the pooling takes, Captum's hooks on that one
        # tensor would see the gradient before the pooling's rule has changed it.
        return applied(activation.view_as(activation))


def _replace_modules(cnn: nn.Module) -> None:
    """Nonlinear modules become plain calls, which no hook of Captum's recognises."""
    plain = {nn.ReLU: torch.relu, nn.ReLU6: F.relu6}
    covered = (nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.MaxPool2d)
    for module in list(cnn.modules()):
        for name, child in list(module._modules.items()):  # one module may stand under several names
            if child is None:
                continue
            if type(child) in plain:
                setattr(module, name, Application(plain[type(child)]))
            elif type(child) in covered:
                child.__class__ = type(f"Plain{type(child).__name__}", (type(child),), {})


@contextmanager
def own_rules() -> Iterator[None]:
    """Within the block, Captum's DeepLift knows the modules of :class:`OwnActivations`."""
    deep_lift.SUPPORTED_NON_LINEAR.update(RULES)
    try:
        yield
    finally:
        for kind in RULES:
            deep_lift.SUPPORTED_NON_LINEAR.pop(kind, None)
