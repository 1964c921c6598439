"""A map is the same alone, in any batch and in any order, to 1e-5: of all methods, trained ones too.

What is left of it (at most 6e-6, of guided feature inversion, which optimises) is the CNN's: oneDNN multiplies
one image by another kernel than a batch, and sums round differently.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gan_lib import api
from gan_lib.data import digits_in_scenes
from gan_lib.explainers import METHODS, methods_of

ROOT = Path(__file__).parents[2]
TRAINED = tuple(f"{kind}{name}" for kind in ("", "contrastive_", "universal_") for name in ("lsft", "gsft"))
CHEAP = {
    "rise": {"masks": 40},
    "occlusion": {"window": 16},
    "integrated_gradients": {"steps": 16},
    "score_cam": {"channels": 16},
    "smoothgrad": {"samples": 8},
    "gradient_shap": {"samples": 8},
    "expected_gradients": {"samples": 8},
}
SAME = 1e-5


@pytest.fixture(scope="module")
def cnn():
    return api.load_cnn("slim_vgg", pretrained=ROOT / "data/pretrained", device="cpu")


@pytest.fixture(scope="module")
def pictures():
    return digits_in_scenes(train=10, test=6, size=64, seed=3).test.batch(torch.arange(3)).images


@pytest.mark.parametrize("method", [*methods_of("baseline", "control"), *TRAINED])
def test_alone_in_a_batch_and_in_any_order(cnn, pictures, method):
    explainer = api.explainer(method, cnn, ROOT / "data/pretrained", **CHEAP.get(method, {}))
    together = explainer.attribute(pictures)
    assert together.amax((1, 2, 3)).min() > 0, "there is something to compare"
    for other in (
        explainer.attribute(pictures, batch_size=1),
        explainer.attribute(pictures, batch_size=2),
        explainer.attribute(pictures.flip(0)).flip(0),
        explainer.attribute(torch.cat([pictures[1:], pictures, pictures[:1]]))[2:5],
    ):
        assert (other - together).abs().max() <= SAME


def test_none_is_left_out():
    assert {*METHODS} - {*methods_of("baseline", "control")} == {*TRAINED}
