"""Saved pictures keep their colours, plots are small; decided by pixels."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.figures import FigureFolder, curve, map_grid
from gan_lib.figures import save as save_module


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def gradients(side=64):
    """Red to the right, green downwards, blue in the middle: every pixel has a colour of its own."""
    ramp = torch.linspace(0, 1, side)
    red, green = ramp.expand(side, side), ramp[:, None].expand(side, side)
    return torch.stack([red, green, 1 - (red - green).abs()])[None].repeat(6, 1, 1, 1)


@pytest.fixture
def folder(tmp_path):
    return FigureFolder(tmp_path, "cpu/x", {})


def test_a_gradient_survives_saving(folder, monkeypatch):
    monkeypatch.setattr(save_module, "LARGE", 0)
    given = gradients()
    path = folder.save_figure(map_grid({"a": given}, cell=2, colour_bar=False), "grid", "Gradients")
    with Image.open(path) as opened:
        assert opened.mode == "RGB"
        pixels = np.asarray(opened).reshape(-1, 3).astype(int)
    seen = np.unique(pixels, axis=0)
    wanted = np.unique((given[0] * 255).permute(1, 2, 0).reshape(-1, 3).numpy(), axis=0)
    for colour in wanted[::7]:
        assert np.abs(seen - colour).max(1).min() <= 1


def test_a_map_in_colour_survives_as_well(folder, monkeypatch):
    monkeypatch.setattr(save_module, "LARGE", 0)
    path = folder.save_figure(map_grid({"m": gradients()[:1, :1]}, cell=2), "map", "A map")
    with Image.open(path) as opened:
        assert opened.mode == "RGB"


def test_a_large_plot_has_a_palette_and_a_small_one_stays(folder, monkeypatch):
    import pandas as pd

    table = pd.DataFrame({"x": range(9), "y": range(9), "low": range(9), "high": range(9)})
    plot = lambda: curve(table, "x", "y", "low", "high", ("x", "y"))  # noqa: E731
    small = folder.save_figure(plot(), "small", "A plot")
    with Image.open(small) as opened:
        assert opened.mode == "RGBA"  # as matplotlib writes it
    monkeypatch.setattr(save_module, "LARGE", 0)
    with Image.open(folder.save_figure(plot(), "plot", "A plot")) as opened:
        assert opened.mode == "P"


def test_huge_pictures_become_smaller_and_keep_their_colours(folder, monkeypatch):
    monkeypatch.setattr(save_module, "LARGE", 0)
    figure = map_grid({"a": gradients()}, colour_bar=False)
    with Image.open(folder.save_figure(figure, "grid", "Gradients")) as opened:
        before = opened.size
    monkeypatch.setattr(save_module, "HUGE", 0)  # is for plots
    with Image.open(folder.save_figure(figure, "grid", "Gradients")) as opened:
        assert opened.size == before
    monkeypatch.setattr(save_module, "HUGE_PICTURES", 0)
    with Image.open(folder.save_figure(figure, "grid", "Gradients")) as opened:
        assert (opened.mode, opened.size) == ("RGB", (7 * before[0] // 10, 7 * before[1] // 10))
