"""CNNs that forget: weights drawn anew, layer by layer from the top (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gan_lib.capture import layers_in_order


def randomised(
    cnn: nn.Module, example: Tensor, stages: int = 6, seed: int = 0
) -> Iterator[tuple[float, nn.Module]]:
    """Copies of a CNN, of which ever more layers are drawn anew, from the last to the first.

        for share, forgetful in randomised(cnn, images[:1]):
            maps = make_explainer(forgetful).attribute(images)

    Args:
        cnn: any module; left as it is.
        example: (1, 3, H, W), to find the order of the layers.
        stages: copies, evenly spread; the last one has forgotten everything.
        seed: of the new weights.

    Yields:
        The share of the layers that are drawn anew, 0..1, and the copy, in eval mode.
    """
    resettable = tuple({type(m) for m in cnn.modules() if hasattr(m, "reset_parameters")})
    order = [name.partition("#")[0] for name in layers_in_order(cnn, example, resettable)]
    forgetful = copy.deepcopy(cnn).eval()
    modules = dict(forgetful.named_modules())
    done = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for stage in range(1, stages + 1):
            until = round(stage * len(order) / stages)
            for name in order[::-1][done:until]:
                reset = modules[name].reset_parameters
                assert callable(reset)
                reset()
            done = until
            yield done / len(order), copy.deepcopy(forgetful)
