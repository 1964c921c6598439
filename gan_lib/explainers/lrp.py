"""Layer-wise relevance propagation (Bach et al., PLoS ONE 2015), by the rules of zennit.

What a CNN makes of an image becomes a graph of layers and functions (torch.fx), of which every part needs a
rule: zennit's hold for layers with weights and for averages; activations pass relevance on as it is; what
only moves values about passes its gradient, which is the relevance. Batch normalisation is merged into the
convolution before it. A CNN with any other part is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import zennit.rules as zr
import zennit.types as zt
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zennit.composites import LayerMapComposite
from zennit.core import Composite
from zennit.layer import Sum

from gan_lib.classifiers.copies import bring_up_to_date, follow, reproduces, traced_copy
from gan_lib.core.maps import min_max
from gan_lib.explainers.base import Target
from gan_lib.explainers.gradients import GradientExplainer

WEIGHTS = (nn.modules.conv._ConvNd, nn.Linear)
NORMALISATIONS = nn.modules.batchnorm._BatchNorm
PADDINGS = (nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d)
MOVING_LAYERS = (nn.modules.dropout._DropoutNd, nn.Identity, nn.Flatten, *PADDINGS, zt.MaxPool, Sum)
# By name, whether called as a function or as a tensor's method.
ACTIVATIONS = {"relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "silu", "gelu", "hardswish", "tanh"}
AVERAGES = {"mean", "avg_pool2d", "adaptive_avg_pool2d"}
ARITHMETIC = {"add", "iadd", "sub", "mul", "truediv"}
MOVING = {"flatten", "view", "reshape", "permute", "transpose", "contiguous", "clone", "squeeze", "unsqueeze"}
MOVING |= {"cat", "concat", "max_pool2d", "adaptive_max_pool2d", "boolean_dispatch", "dropout", "getitem"}
MOVING |= {"size", "getattr", "chunk", "split"}
MOVING |= {"pad"}  # of which numbers have no relevance, and copies give theirs back
MOVING |= {"interpolate"}  # its gradient shares relevance out by weights that add up to 1 for each place made
OF_IMAGES, RULED = "of_images", "ruled"  # of a graph: nodes that depend on the images, layers with rules


class LRP(GradientExplainer):
    """Relevance of the class's score, shared out layer by layer: the rules that "Towards best practice in
    explaining neural network decisions with LRP" (Kohlbrenner et al., IJCNN 2020) finds best.

        maps = LRP(cnn).attribute(images)

    Flat in the first layer, z-plus in the other convolutions, epsilon in linear layers. The last layer with
    weights starts with ``z dy_c / dz`` of its output z, whatever comes after it. A map is the positive part
    of the sum over the channels.

    Raises:
        ValueError: when asked for maps of a CNN that torch.fx cannot trace, or with a part that has no rule:
            normalisation that follows no convolution, products of two activations (squeeze-and-excitation),
            attention.
    """

    _net: fx.GraphModule | None = None

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        if self._net is None:
            self._net = _copied(self.cnn, (images.shape[-2], images.shape[-1]))
        net, rules = self._net, _rules(self._net)
        with rules.context(net):
            score = net(images).gather(1, target[:, None]).sum()
            return torch.autograd.grad(score, images)[0]

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return min_max(self.attributions(images, target).float().sum(1, keepdim=True).relu())


def _copied(cnn: nn.Module, size: tuple[int, int]) -> fx.GraphModule:
    """A copy for relevance of images of a size, which follows the CNN's weights."""
    bring_up_to_date(cnn)
    with torch.inference_mode(False), torch.no_grad():
        made, exact = relevance_copy(cnn), copy.deepcopy(cnn).double()  # what differs is no rounding
        if not reproduces(relevance_copy(exact), exact, size):
            raise ValueError(f"LRP: {type(cnn).__name__} gives other scores as a graph of its layers")
    follow(made, cnn, relevance_copy)
    return made


def relevance_copy(cnn: nn.Module) -> fx.GraphModule:
    """A copy of the same scores whose gradient is relevance wherever zennit's rules do not make it so.

    Raises:
        ValueError: a CNN that cannot be traced, or a part without a rule.
    """
    kind = type(cnn).__name__
    try:
        made = traced_copy(cnn)
    except Exception as error:  # whatever a CNN's own code does not bear
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"LRP needs a CNN that torch.fx can trace, which {kind} is not: {told}") from error
    _merge(made)
    weighted = [node for node in made.graph.nodes if isinstance(_layer(made, node), WEIGHTS)]
    if not weighted:
        raise ValueError(f"LRP needs a layer with weights, which {kind} does not have")
    for node in list(made.graph.nodes):
        own = [other for other in node.all_input_nodes if other.meta.get(OF_IMAGES)]
        node.meta[OF_IMAGES] = bool(own) or node.op == "placeholder"
        if node is weighted[-1]:
            break
        if own and (problem := _give_rule(made, node, own)):
            raise ValueError(f"LRP has no rule for {problem} in {kind}: take another method")
    _go_on(made, weighted[-1], started)
    made.graph.lint()
    made.recompile()
    made.meta[RULED] = _layers_until(made, weighted[-1])
    return made.requires_grad_(False).eval()


def _give_rule(made: fx.GraphModule, node: fx.Node, own: list[fx.Node]) -> str | None:
    """Let a node of a graph pass relevance; what it is, where it cannot. ``own`` are its inputs made of the
    images."""
    layer, name = _layer(made, node), _name(node)
    if layer is not None:
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]
        if isinstance(layer, zt.Activation) and not isinstance(layer, nn.MultiheadAttention):
            _go_on(made, node, passed_on, own[0])
        elif not isinstance(layer, (*WEIGHTS, *MOVING_LAYERS)) and not isinstance(layer, zt.AvgPool):
            return f"{type(layer).__name__} ({node.target})"
    elif name in ACTIVATIONS or (name in ARITHMETIC and len(own) == 1):
        node.kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        if node.op == "call_method":
            node.target = name.rstrip("_")
        _go_on(made, node, passed_on, own[0])
    elif name in ("add", "iadd") and len(own) == 2:
        with made.graph.inserting_before(node):
            both = made.graph.call_function(torch.stack, (own,), {"dim": -1})
        _replace(made, node, Sum(), both)
    elif name in AVERAGES:
        rest = tuple(argument for argument in node.args if argument is not own[0])
        _replace(made, node, _Average(node.target, rest, dict(node.kwargs)), own[0])
    elif name not in MOVING:
        return "a product of two activations" if name == "mul" else f"{name!r}"
    return None


class _Average(nn.Module):
    """A function that averages, as a layer for zennit."""

    def __init__(
        self, target: Callable[..., Tensor] | str, rest: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        super().__init__()
        self.function = getattr(torch.Tensor, target) if isinstance(target, str) else target
        self.rest, self.named = rest, named

    def forward(self, activation: Tensor) -> Tensor:
        made: Tensor = self.function(activation, *self.rest, **self.named)
        return made


class _Pass(torch.autograd.Function):
    """What a function made of an activation; relevance goes to the activation as it is."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, activation: Tensor) -> Tensor:
        return made.clone()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[None, Tensor]:
        return None, relevance


class _Start(torch.autograd.Function):
    """The last layer's output z; from here on the gradient becomes relevance, ``z dy / dz``."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        ctx.save_for_backward(output)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


def passed_on(made: Tensor, activation: Tensor) -> Tensor:
    """What a function made of an activation (B, ...), for a graph, which takes functions only."""
    given: Tensor = _Pass.apply(made, activation)
    return given


def started(output: Tensor) -> Tensor:
    """The last layer's output (B, K), where relevance starts."""
    given: Tensor = _Start.apply(output)
    return given


def _rules(made: fx.GraphModule) -> Composite:
    """Zennit's rules for a graph of :func:`relevance_copy`."""
    averages = ((Sum, zr.Norm()), (zt.AvgPool, zr.Norm()), (_Average, zr.Norm()))
    layers = LayerMapComposite([*averages, (zt.Convolution, zr.ZPlus()), (nn.Linear, zr.Epsilon())])
    ruled: dict[str, bool] = made.meta[RULED]

    def rule(context: dict[str, Any], name: str, layer: nn.Module) -> Any:
        if name not in ruled:  # behind the last layer gradients are what they are
            return None
        return zr.Flat() if ruled[name] else layers.mapping(context, name, layer)

    return Composite(module_map=rule)


def _layers_until(made: fx.GraphModule, last: fx.Node) -> dict[str, bool]:
    """Names of the layers that run, up to the last with weights; whether one is the first with weights."""
    nodes = list(made.graph.nodes)
    ran = [node for node in nodes[: nodes.index(last) + 1] if node.op == "call_module"]
    first = next(node for node in ran if isinstance(_layer(made, node), WEIGHTS))
    return {str(node.target): node is first for node in ran}


def _merge(made: fx.GraphModule) -> None:
    """Merge batch normalisation into the layer before it, where that goes nowhere else."""
    for node in list(made.graph.nodes):
        normalisation = _layer(made, node)
        if not isinstance(normalisation, NORMALISATIONS):
            continue
        before = node.all_input_nodes[0]
        layer = _layer(made, before)
        if isinstance(layer, nn.Conv2d) and len(before.users) == 1:
            made.set_submodule(str(before.target), fuse_conv_bn_eval(layer, normalisation))
            node.replace_all_uses_with(before)
            made.graph.erase_node(node)


def _layer(made: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return made.get_submodule(str(node.target)) if node.op == "call_module" else None


def _name(node: fx.Node) -> str:
    """What a function or method is called."""
    return str(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target))


def _go_on(made: fx.GraphModule, node: fx.Node, function: Callable[..., Any], *others: fx.Node) -> None:
    """Let the graph go on with a function of what a node gives, and of other nodes."""
    with made.graph.inserting_after(node):
        after = made.graph.call_function(function, (node, *others))
    after.meta[OF_IMAGES] = True
    node.replace_all_uses_with(after, delete_user_cb=lambda user: user is not after)


def _replace(made: fx.GraphModule, node: fx.Node, layer: nn.Module, taken: fx.Node) -> None:
    """Put a layer, given one node, in place of a function."""
    name = f"averaging_{node.name}"
    made.add_submodule(name, layer)
    with made.graph.inserting_after(node):
        after = made.graph.call_module(name, (taken,))
    after.meta[OF_IMAGES] = True
    node.replace_all_uses_with(after)
    made.graph.erase_node(node)
