"""A method of one's own: one class, registered; then a name like any other."""

from __future__ import annotations

import pandas as pd
import torch
from torchvision.utils import save_image
from typer.testing import CliRunner

from gan_lib.core.maps import min_max
from gan_lib.explainers import METHODS, Explainer, Method, make_explainer, methods_of


class Luminance(Explainer):
    """How bright a pixel is, or how dark."""

    def __init__(self, cnn, dark=False):
        super().__init__(cnn)
        self.dark = dark

    def maps(self, images, target):
        luminance = images.mean(1, keepdim=True)  # (B, 1, H, W)
        return min_max(1 - luminance if self.dark else luminance)


METHODS.register("luminance", Method(Luminance, kind="control"))  # it does not look at the CNN


def test_it_explains_by_its_name(tiny_net, images):
    assert "luminance" in methods_of("control")
    found = make_explainer("Luminance", tiny_net).explain(images, targets=2)
    assert (found.method, found.maps.shape, found.targets.tolist()) == (
        "luminance",
        (3, 1, 16, 16),
        [2, 2, 2],
    )
    dark = make_explainer("luminance", tiny_net, dark=True).explain(images)
    assert torch.allclose(dark.maps, 1 - found.maps, atol=1e-6)
    assert METHODS["luminance"].takes("dark")
    assert not METHODS["luminance"].takes("layer")


def test_the_command_line_takes_it(tmp_path):
    from gan_lib.cli import app

    save_image(torch.rand(3, 64, 64), tmp_path / "picture.png")
    command = ["explain", str(tmp_path / "picture.png"), "--method", "luminance", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out/luminance/picture_overlay.png").is_file()
    assert pd.read_csv(tmp_path / "out/explanations.csv")["method"].tolist() == ["luminance", "grad_cam"]


def test_a_recipe_takes_it_into_the_comparison():
    from gan_lib.workbench.sections import JudgeRecipe

    assert JudgeRecipe(methods=("grad_cam", "Luminance")).methods == ("grad_cam", "luminance")
