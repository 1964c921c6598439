"""CNNs that forget: weights drawn anew, layer by layer from the top (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gan_lib.core.capture import layers_in_order


def randomised(
    cnn: nn.Module, example: Tensor, stages: int = 6, seed: int = 0
) -> Iterator[tuple[float, nn.Module]]:
    """Copies of a CNN, of which ever more layers are drawn anew, from the last to the first.

        for share, forgetful in randomised(cnn, images[:1]):    # 0..1 of the layers; in eval mode
            maps = make_explainer(forgetful).attribute(images)

    Args:
        cnn: any module; left as it is.
        example: (1, 3, H, W), to find the order of the layers.
        stages: copies, evenly spread; the last one has forgotten every layer that has a
            ``reset_parameters``, as torch's have.
        seed: of the new weights.
    """
    resettable = tuple({type(m) for m in cnn.modules() if hasattr(m, "reset_parameters")})
    ran = [name.partition("#")[0] for name in layers_in_order(cnn, example, resettable)]
    order = list(dict.fromkeys(reversed(ran)))  # from the last to the first, each once
    forgetful = copy.deepcopy(cnn).cpu().eval()  # drawn on the CPU: the same on every device
    modules = dict(forgetful.named_modules())
    done = 0
    for stage in range(1, stages + 1):
        until = round(stage * len(order) / stages)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(1000 * seed + stage)
            for name in order[done:until]:
                reset = modules[name].reset_parameters
                assert callable(reset)
                reset()
        done = until
        yield done / len(order), copy.deepcopy(forgetful).to(example.device)
