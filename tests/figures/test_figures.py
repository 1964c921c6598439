from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from gan_lib.figures import (
    FigureFolder,
    check_manifest,
    confusion,
    image_grid,
    interval_bars,
    map_grid,
    overlay,
    read_manifest,
    training_curves,
)
from gan_lib.figures.save import merge_manifest


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_grids_show_every_picture():
    images, masks, maps = torch.rand(7, 3, 8, 8), torch.rand(7, 1, 8, 8) > 0.5, torch.rand(7, 1, 8, 8)
    drawn = [
        axis for axis in image_grid(images, masks, [str(i) for i in range(7)], columns=4).axes if axis.images
    ]
    assert len(drawn) == 14
    figure = map_grid({"image": images[:2], "map": maps[:2], "mask": masks[:2]}, ["a", "b"])
    assert sum(bool(axis.images) for axis in figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "map", "mask"]


def test_overlay_stays_in_range_and_shows_the_map():
    images, maps = torch.rand(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    maps[0] = 1
    shown = overlay(images, maps)
    assert shown.shape == images.shape
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert shown[0].mean() > shown[1].mean()


def test_plots_draw_what_they_are_given():
    table = pd.DataFrame({"label": [0, 0, 1, 1], "prediction": [0, 1, 1, 1]})
    texts = [text.get_text() for text in confusion(table, ["cat", "dog"]).axes[0].texts]
    assert texts == ["1", "1", "0", "2"]
    logs = {
        "a": pd.DataFrame({"step": range(9), "loss": range(9)}),
        "b": pd.DataFrame({"step": [0], "loss": [1.0]}),
    }
    figure = training_curves(logs, {"loss": "the loss"})
    assert len(figure.axes[0].lines) == 4
    rows = [
        {"method": m, "measure": k, "mean": 1.0, "low": 0.5, "high": 2.0}
        for m in ("x", "y")
        for k in ("p", "q", "r", "s")
    ]
    figure = interval_bars(pd.DataFrame(rows), {"p": "P", "q": "Q", "r": "R", "s": "S"})
    assert [axis.get_xlabel() for axis in figure.axes if axis.get_visible()] == ["P", "Q", "R", "S"]


def test_saving_writes_picture_data_and_manifest_and_is_repeatable(tmp_path):
    folder = FigureFolder(tmp_path, "cpu/01_x", {"seed": 3, "notebook": "01_x"})

    def save():
        figure = map_grid({"map": torch.eye(6)[None, None]})
        return folder.save_figure(figure, "eye", "An eye", pd.DataFrame({"a": [1 / 3]}))

    first = save().read_bytes()
    assert save().read_bytes() == first
    manifest = read_manifest(tmp_path)
    assert set(manifest["files"]) == {"cpu/01_x/eye.png", "cpu/01_x/eye.csv"}
    assert manifest["runs"]["cpu/01_x"]["seed"] == 3
    assert (tmp_path / "cpu/01_x/eye.csv").read_text() == "a\n0.333333\n"
    assert not check_manifest(tmp_path)
    (tmp_path / "cpu/01_x/eye.csv").write_text("a\n1\n")
    (tmp_path / "cpu/01_x/eye.png").unlink()
    assert sorted(check_manifest(tmp_path)) == [
        "cpu/01_x/eye.csv: changed since it was recorded",
        "cpu/01_x/eye.png: missing",
    ]


def test_replacing_a_run_names_what_it_no_longer_makes(tmp_path):
    merge_manifest(
        tmp_path, {"a.png": {"run": "r"}, "b.png": {"run": "r"}, "c.png": {"run": "s"}}, {"r": {}, "s": {}}
    )
    assert merge_manifest(tmp_path, {"a.png": {"run": "r"}}, {"r": {}}, replaces_runs=True) == ["b.png"]
    assert set(read_manifest(tmp_path)["files"]) == {"a.png", "c.png"}
