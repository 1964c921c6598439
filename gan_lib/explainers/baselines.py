"""The linear control, which learns nothing."""

from __future__ import annotations

from torch import Tensor

from gan_lib.explainers.base import Explainer, Target
from gan_lib.gan.conditions import ConditionMaker, linear_readout


class LinearReadout(Explainer):
    """Control: the map read off the conditions by a subtraction, with nothing learned."""

    needs_gradients = True

    def __init__(self, maker: ConditionMaker) -> None:
        super().__init__(maker.cnn)
        self.maker = maker

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return linear_readout(self.maker(images, target).cgma, self.maker.positions)
