"""CNNs that forget: weights drawn anew, layer by layer (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gan_lib.core.capture import layers_in_order


def randomised(
    cnn: nn.Module, example: Tensor, stages: int = 6, seed: int = 0, bottom_up: bool = False
) -> Iterator[tuple[float, nn.Module]]:
    """Copies of a CNN, of which ever more layers are drawn anew, from the last to the first.

        for share, forgetful in randomised(cnn, images[:1]):    # 0..1 of the layers; in eval mode
            maps = make_explainer(forgetful).attribute(images)

    Args:
        cnn: any module; left as it is.
        example: (1, 3, H, W), to find the order of the layers.
        stages: copies, evenly spread, at most one a layer; the last one has forgotten every layer with
            weights of its own that has a ``reset_parameters``, as torch's have.
        seed: of the new weights.
        bottom_up: from the first to the last instead. Layers that are drawn anew on top leave what lies below
            as it was, and with it much of a map (Hedström et al., 2023, for Binder et al., CVPR 2023).

    Raises:
        ValueError: a layer that cannot be drawn anew, or whose weights stay as they were.
    """
    kinds = {type(own) for own in cnn.modules() if hasattr(own, "reset_parameters") and _own_weights(own)}
    resettable = tuple(kinds)
    ran = [name.partition("#")[0] for name in layers_in_order(cnn, example, resettable)]
    order = list(dict.fromkeys(ran if bottom_up else reversed(ran)))  # each once
    stages = min(stages, len(order))
    forgetful = copy.deepcopy(cnn).cpu().eval()  # drawn on the CPU: the same on every device
    modules = dict(forgetful.named_modules())
    done = 0
    for stage in range(1, stages + 1):
        until = round(stage * len(order) / stages)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(1000 * seed + stage)
            for name in order[done:until]:
                _draw_anew(modules[name], name)
        done = until
        yield done / len(order), copy.deepcopy(forgetful).to(example.device)


def _own_weights(module: nn.Module) -> bool:
    """Whether a module has weights itself, and not only what it contains; parametrised ones count."""
    return any(own is not None for own in module._parameters.values()) or is_parametrized(module)


def _draw_anew(module: nn.Module, name: str) -> None:
    """Reset a layer; weights that are made of others, as weight normalisation does, are drawn as well."""
    before = [
        own.detach().clone() for own in module.parameters() if own.numel() > 1 and own.unique().numel() > 1
    ]
    try:
        module.reset_parameters()  # type: ignore[operator]
    except TypeError as error:
        raise ValueError(f"layer {name!r} cannot be drawn anew: {error}") from error
    made = ["weight"] if is_parametrized(module) or hasattr(module, "weight_v") else []
    for own in made:
        drawn = torch.empty_like(getattr(module, own))
        nn.init.kaiming_uniform_(drawn, a=5**0.5)
        if is_parametrized(module):
            setattr(module, own, drawn)
        else:  # the older form of weight normalisation
            module.get_parameter("weight_v").data.copy_(drawn)
    after = [own for own in module.parameters() if own.numel() > 1]
    if before and all(
        any(torch.equal(own, new) for new in after if new.shape == own.shape) for own in before
    ):
        raise ValueError(f"the weights of layer {name!r} stay as they were when it is drawn anew")


def relabelled(cnn: nn.Module, first: str, norm: str, second: str, seed: int = 0) -> nn.Module:
    """A copy of a CNN that is the same function, though the channels between two convolutions are in another
    order and of another size: what is said of it must be the same.

        other = relabelled(cnn, "backbone.features.0", "backbone.features.1", "backbone.features.4")

    Args:
        cnn: left as it is.
        first, norm, second: a convolution, its batch normalisation, and the convolution that sees nothing but
            the normalised channels, rectified or pooled.
        seed: of the order, and of the sizes, 0.1 to 10 times the old ones.

    Raises:
        TypeError: layers of other kinds.
    """
    copied = copy.deepcopy(cnn)
    convolution, normalisation, reader = (copied.get_submodule(name) for name in (first, norm, second))
    if not (isinstance(normalisation, nn.BatchNorm2d) and normalisation.affine):
        raise TypeError(f"{norm} is no batch normalisation with a weight and a bias")
    if not (isinstance(convolution, nn.Conv2d) and isinstance(reader, nn.Conv2d)):
        raise TypeError(f"{first} and {second} are no two convolutions")
    if convolution.groups > 1 or reader.groups > 1:
        raise TypeError(f"{first} or {second} has groups of channels, which have no other order")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(convolution.out_channels, generator=generator)
    sizes = 10 ** (2 * torch.rand(len(order), generator=generator) - 1).to(reader.weight)
    with torch.no_grad():
        for module in (convolution, normalisation):
            for own in (*module.parameters(), *module.buffers()):
                if own.ndim:
                    own.copy_(own[order])
        for own in normalisation.parameters():  # weight and bias
            own.mul_(sizes)
        reader.weight.copy_(reader.weight[:, order] / sizes[:, None, None])
    return copied


@contextmanager
def lent_weights(other: nn.Module, cnn: nn.Module) -> Iterator[None]:
    """Within the block a CNN has another's weights, its own afterwards: whatever its explainers hold of it
    follows.

        with lent_weights(forgetful, cnn):
            maps = explainer.attribute(images)
    """
    own = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    cnn.load_state_dict({name: tensor.clone() for name, tensor in other.state_dict().items()})
    try:
        yield
    finally:
        cnn.load_state_dict(own)
