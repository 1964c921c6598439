"""Hooks, in one place: read activations by layer name, replace them, list and spread layers.

    with Capture(cnn, ["layer1", "layer4"]) as activations:
        logits = cnn(images)
    activations["layer4"]  # (B, C, H, W), part of the graph of the logits

Layers are dotted module names. A module that runs several times in one forward pass is addressed
with its call number, counted from 0: ``"layer1.0.relu#1"`` is the second call. What a module is given,
its first positional argument, is addressed as ``"fc@input"``, or ``"layer1.0.relu#1@input"``.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

T = TypeVar("T")

INPUT = "@input"


def find_layer(
    model: nn.Module, layer: str, named: Mapping[str, nn.Module] | None = None
) -> tuple[nn.Module, int | None]:
    """The module that a layer name means, and its call number if the name has one.

    Args:
        named: the model's modules by name, where many are looked for.

    Raises:
        KeyError: no such module; the message lists near misses.
        ValueError: a call number that is no number.
    """
    name, _, call = layer.removesuffix(INPUT).partition("#")
    modules = dict(model.named_modules()) if named is None else named
    if name not in modules or not name:
        last = name.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(name, modules, n=4, cutoff=0.5)
        near += [other for other in modules if other.endswith(f".{last}") and other not in near][:4]
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        raise KeyError(f"no layer {name!r} in {type(model).__name__}{hint}")
    if call and not call.isdecimal():
        raise ValueError(f"layer {layer!r}: the call number after '#' must be 0, 1, ...")
    return modules[name], int(call) if call else None


class Capture(Mapping[str, Tensor]):
    """The activations of some layers during one forward pass.

    Of an output the tensor itself is kept, and the model goes on with a clone; of an input a clone is kept,
    and the module gets a clone of that. So no in-place operation, behind the layer (torchvision's ReLUs) or
    its own, changes the activation or its gradient, and an input's gradient is the one through this call
    alone.

    Raises:
        KeyError: an unknown layer, or one that did not run.
        TypeError: a layer whose output is no tensor, or whose input is none or is given by name.
        RuntimeError: a layer named without call number ran twice.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        named = dict(model.named_modules())
        self._found = {layer: find_layer(model, layer, named) for layer in layers}
        self._kept: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Capture:
        self._kept.clear()
        for layer, (module, call) in self._found.items():
            self._handles += _at_call(module, layer, call, partial(self._keep, layer))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, layer: str, value: Tensor) -> Tensor:
        self._kept[layer] = value.clone() if layer.endswith(INPUT) else value
        return self._kept[layer]

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._found:
            raise KeyError(f"layer {layer!r} was not captured; captured: {list(self._found)}")
        if layer not in self._kept:
            raise KeyError(f"layer {layer!r} did not run in the forward pass")
        return self._kept[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _at_call(
    module: nn.Module, layer: str, wanted: int | None, change: Callable[[Tensor], Tensor]
) -> list[RemovableHandle]:
    """Let a function see what a layer gives, or is given, at one call; a clone of its result goes on."""
    calls = itertools.count()

    def at(value: Any) -> Any:
        call = next(calls)
        if wanted is None and call:
            raise RuntimeError(f"layer {layer!r} ran twice; name the call: {_numbers(layer)}, ...")
        if wanted is not None and call != wanted:
            return value
        if not isinstance(value, Tensor):
            verb = "takes" if layer.endswith(INPUT) else "gives"
            raise TypeError(f"layer {layer!r} {verb} {type(value).__name__}, not a tensor")
        return change(value)

    if not layer.endswith(INPUT):

        def behind(module: nn.Module, inputs: Any, output: Any) -> Any:
            made = at(output)
            return made.clone() if isinstance(made, Tensor) else made

        return [module.register_forward_hook(behind)]
    pending: list[tuple[Any, Any]] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not inputs:
            raise TypeError(f"layer {layer!r}: the module is given nothing by position")
        made = at(inputs[0])
        pending.append((inputs[0], made))
        return (made if made is inputs[0] else made.clone(), *inputs[1:])

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        (value, made), given = pending.pop(), inputs[0]
        if given is value:
            return
        # A module that works in place has changed the clone; what follows may count on the tensor's change.
        if not torch.equal(given, made) if given.is_inference() else given._version:
            value.copy_(given)

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _numbers(layer: str) -> str:
    """The first two calls of a layer that is named without number."""
    name = layer.removesuffix(INPUT)
    return ", ".join(f"'{name}#{call}{layer[len(name) :]}'" for call in (0, 1))


@contextmanager
def replaced_activation(
    model: nn.Module,
    layer: str,
    replacement: Tensor | Callable[[Tensor], Tensor],
    any_length: bool = False,
) -> Iterator[None]:
    """Within the block, the model goes on with another activation at one layer.

        with replaced_activation(cnn, "layer3", lambda activation: activation + offset * normal):
            shifted_logits = cnn(images)

    Args:
        layer: ``"fc@input"`` replaces what the module is given, and nothing else made of the same tensor.
        replacement: the new activation (B, C, h, w), or a function of the old one; neither is changed in
            place.
        any_length: whether it may be of another number of images, on which the rest of the model then runs.

    Raises:
        KeyError, TypeError, RuntimeError: as :class:`Capture`; also for a layer that did not run in the
        block. ValueError: the replacement has another shape than the activation.
    """
    module, call = find_layer(model, layer)
    replaced = False

    def replace(value: Tensor) -> Tensor:
        nonlocal replaced
        new = replacement if isinstance(replacement, Tensor) else replacement(value.clone())
        if new.shape[any_length:] != value.shape[any_length:]:
            raise ValueError(f"layer {layer!r} has {tuple(value.shape)}, the replacement {tuple(new.shape)}")
        replaced = True
        return new

    handles = _at_call(module, layer, call, replace)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if not replaced:
        raise KeyError(f"layer {layer!r} did not run: nothing was replaced")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within the block every module is in eval mode; after it, each is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    # By their flags: ``eval()`` may be a module's own, and change more (LoRA's merges weights). Setting one
    # takes ten times as long as reading it, and most are what they should be.
    for module, mode in modes:
        if mode:
            module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training is not mode:
                module.training = mode


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block gradients flow through the module but not into its parameters."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def layers_in_order(
    model: nn.Module,
    example: Tensor,
    kind: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Conv2d,
    with_places: bool = False,
) -> list[str]:
    """Names of all layers of a kind, one class or several, in the order in which they run.

    ``with_places`` leaves out those that give no map (B, C, H, W) of several places, if there are others: the
    convolutions of squeeze-and-excitation blocks, and those behind a pooling.

    One forward pass of the example, for instance (1, 3, H, W), tells. A module that runs several times
    appears once per call, as ``name#0``, ....

    Raises:
        ValueError: no such layer ran.
    """
    calls = [call for call in module_calls(model, example) if isinstance(call[1], kind)]
    ran = [name for name, _, _ in calls]
    if not ran:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        told = " or ".join(own.__name__ for own in kinds[:3])
        raise ValueError(f"no {told} ran in {type(model).__name__}{in_one_piece(model)}")
    names = [numbered(ran, index) for index in range(len(ran))]
    if not with_places:
        return names
    mapped = [name for name, (_, _, output) in zip(names, calls, strict=True) if has_places(output)]
    return mapped or names


def last_places(model: nn.Module, example: Tensor, before: str) -> str:
    """The last layer before another one whose output still has places: (B, C, H, W) with H * W > 1.

    Where a container ends with that output, the layer inside that made it is named. One forward pass of the
    example, for instance (1, 3, H, W), tells.

    Raises:
        ValueError: there is none.
    """
    calls = module_calls(model, example)
    end = next((index for index, call in enumerate(calls) if call[0] == before), len(calls))
    placed = [index for index, (name, _, output) in enumerate(calls[:end]) if name and has_places(output)]
    if not placed:
        raise ValueError(f"no layer of {type(model).__name__} before {before!r} has places")
    last = calls[placed[-1]][2]
    makers = [i for i in placed if calls[i][2] is last and not any(calls[i][1].children())]
    return numbered([name for name, _, _ in calls], makers[-1] if makers else placed[-1])


def has_places(output: object) -> bool:
    """Whether a layer's output is a map, (B, C, H, W) with H * W > 1."""
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1


def in_one_piece(model: nn.Module) -> str:
    """What to do about a scripted, traced or exported CNN, whose layers are hidden; empty for others."""
    pieces = (torch.jit.ScriptModule, torch.fx.GraphModule)
    if not any(isinstance(own, pieces) for own in model.modules()):
        return ""
    return ": of a scripted, traced or exported CNN wrap the module that it was made from"


def module_calls(model: nn.Module, example: Tensor) -> list[tuple[str, nn.Module, Any]]:
    """Name, module and output of every call in one forward pass of (B, 3, H, W), in order of finishing."""
    calls: list[tuple[str, nn.Module, Any]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, _, output: calls.append((name, module, output))

    whole = torch.jit.ScriptModule  # no hook can be set inside
    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if not isinstance(module, whole)
    ]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def numbered(ran: Sequence[str], index: int) -> str:
    """The name at an index, with its call number where the name ran several times."""
    name = ran[index]
    return f"{name}#{ran[:index].count(name)}" if ran.count(name) > 1 else name


def spread_positions(total: int, count: int) -> list[int]:
    """Positions 1..total of ``count`` layers spread evenly over the depth.

    ``ceil(p_i * total / 100)`` with ``p_i = ceil(100 * i / (count - 1))``, i = 0..count-1, and 1 in place of
    0 (arXiv 2301.08067, section 3): ``spread_positions(13, 8)``, of VGG16, is [1, 2, 4, 6, 8, 10, 12, 13].
    Where rounding makes two positions coincide (from 14 on), the earlier one moves towards the input by one.

    Raises:
        ValueError: fewer layers than positions, or no position at all.
    """
    if not 1 <= count <= total:
        raise ValueError(f"cannot spread {count} positions over {total} layers")
    if count == 1:
        return [total]
    percentages = [math.ceil(100 * i / (count - 1)) for i in range(count)]
    # Integers throughout: 29 * 100 / 100 in floating point may round up to the next position.
    positions = [max(1, -(-percentage * total // 100)) for percentage in percentages]
    for i in reversed(range(count - 1)):
        positions[i] = min(positions[i], positions[i + 1] - 1)
    return positions


def spread(layers: Sequence[T], count: int) -> list[T]:
    """``count`` of the layers, spread over the depth as :func:`spread_positions` says."""
    return [layers[position - 1] for position in spread_positions(len(layers), count)]
