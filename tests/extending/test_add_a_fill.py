"""What stands in place of what a map hides, of one's own: one function, registered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan_lib.core.masking import FILLS, masked_images
from gan_lib.explainers import Edges
from gan_lib.explorer.state import Choice
from gan_lib.gan.training import ContrastiveOptions
from gan_lib.metrics import judge


@FILLS.register("white")
def white(images: Tensor) -> Tensor:
    """Ones."""
    return torch.ones_like(images)


def test_it_hides():
    made = masked_images(torch.zeros(1, 3, 1, 1), torch.full((1, 1, 1, 1), 0.25), "white")
    assert made.flatten().tolist() == [0.75] * 3


def test_training_the_judge_and_the_explorer_take_it(tiny_net, images):
    assert ContrastiveOptions(fills=("black", "White")).fills == ("black", "white")
    assert Choice("scene", "slim_vgg", "edges", fill="white").fill == "white"
    target = torch.zeros(3, dtype=torch.long)
    maps = {("edges", 0): Edges(tiny_net).attribute(images)}
    scores = judge(tiny_net, images, maps, target, fills=("black", "white")).scores
    assert not scores["drop_black"].equals(scores["drop_white"])
    for wrong in (
        lambda: ContrastiveOptions(fills=("grey",)),
        lambda: Choice("scene", "slim_vgg", "edges", fill="grey"),
    ):
        with pytest.raises(ValueError, match="unknown fill 'grey'"):
            wrong()
