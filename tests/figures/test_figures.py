from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection

from gan_lib.figures import (
    FigureFolder,
    area_curves,
    check_manifest,
    confusion,
    cost_scatter,
    depth_curves,
    image_grid,
    interval_bars,
    map_grid,
    matrix_panels,
    method_curves,
    method_styles,
    overlay,
    ranked_table,
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
    drawn = [axis for axis in image_grid(images, masks, [str(i) for i in range(7)]).axes if axis.images]
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
    coloured = np.array([[0.001462, 0.000466, 0.013866]])  # inferno at 0
    expected = 0.35 * images[1].mean(0).numpy()[..., None] + 0.65 * coloured
    assert np.allclose(shown[1].permute(1, 2, 0), expected, atol=1e-5)


def test_confusion_of_many_classes_shows_those_with_most_mistakes():
    table = pd.DataFrame({"label": [0, 1, 7, 7, 500, 3], "prediction": [0, 1, 3, 500, 7, 3]})
    axis = confusion(table, [f"class {k}" for k in range(1000)], most=3).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["class 3", "class 7", "class 500"]
    assert [text.get_text() for text in axis.texts] == list("100101010")


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


def intervals(axis):
    """Ends of the whiskers that a panel shows, (N, 2, 2) of x and y."""
    found = [part.get_segments() for part in axis.collections if isinstance(part, LineCollection)]
    return np.concatenate(found)


def frames(axis):
    return [(patch.get_xy(), patch.get_width()) for patch in axis.patches]


def test_whiskers_reach_from_low_to_high():
    rows = [
        ("x", 1.0, 0.5, 2.0),
        ("y", 3.0, 2.5, 3.5),
        ("z", 2.0, 2.1, 2.0),
    ]  # z: its low is above by rounding
    table = pd.DataFrame(rows, columns=["method", "mean", "low", "high"]).assign(measure="m")
    axis = interval_bars(table, {"m": "M"}).axes[0]
    assert intervals(axis)[:, :, 0].tolist() == [[0.5, 2.0], [2.5, 3.5], [2.0, 2.0]]
    assert intervals(axis)[:, 0, 1].tolist() == [0, 1, 2]
    costs = table.rename(columns={"mean": "q", "low": "q_low", "high": "q_high"}).assign(
        **{"ms per image": 7}
    )
    axis = cost_scatter(costs, {"q": "Q"}, method_styles(["x", "y", "z"])).axes[0]
    assert intervals(axis)[:, :, 1].tolist() == [[0.5, 2.0], [2.5, 3.5], [2.0, 2.0]]
    assert set(intervals(axis)[:, :, 0].flat) == {7}
    deep = table.rename(columns={"mean": "share"}).assign(condition=[1, 2, 3], generator="g")
    assert intervals(depth_curves(deep).axes[0])[:, :, 1].tolist()[:2] == [[0.5, 2.0], [2.5, 3.5]]


def test_the_best_of_each_measure_is_framed_but_no_control():
    rows = [("a", 1, 5), ("edges", 9, 1), ("b", 2, 3)]
    table = pd.DataFrame(rows, columns=["method", "gain", "loss"]).melt(
        "method", var_name="measure", value_name="mean"
    )
    axis = ranked_table(table, {"loss": ("Loss", False), "gain": ("Gain", True)}, ["edges"]).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "edges"]
    assert frames(axis) == [((0, 1), 1), ((1, 1), 1)]  # b, in both
    assert [text.get_text() for text in axis.texts] == ["5.00", "1.00", "3.00", "2.00", "1.00", "9.00"]


def test_the_cells_asked_for_are_framed():
    table = pd.DataFrame([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], index=["r", "s"], columns=["x", "y", "z"])
    framed = pd.DataFrame(False, index=["s", "r"], columns=["z", "y", "x"])  # in another order
    framed.loc["r", "z"] = framed.loc["s", "x"] = True
    axis = matrix_panels({"t": table}, framed, columns=1).axes[0]
    assert frames(axis) == [((2, 0), 1), ((0, 1), 1)]
    assert not frames(matrix_panels({"t": table}, columns=1).axes[0])


def test_curves_by_area_stand_in_the_order_of_the_areas():
    rows = [("m", f"k@{area}", area / 10, 0, 1) for area in (30, 5, 10)]
    rows += [("m", name, 9, 9, 9) for name in ("k", "other")]  # of no area
    table = pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high"])
    line = area_curves(table, {"k": "K"}).axes[0].lines[0]
    assert line.get_xydata().tolist() == [[5, 0.5], [10, 1], [30, 3]]


def test_methods_differ_in_colour_or_dash_and_controls_are_grey():
    names = [f"m{index}" for index in range(27)]
    styles = method_styles([*names, "noise"], strong=["m20"], controls=["noise"])
    assert list(styles) == [*names, "noise"]
    assert len({(style["color"], style["linestyle"]) for style in styles.values()}) == 28
    assert [name for name in styles if styles[name]["linewidth"] > 2] == ["m20"]
    assert (styles["noise"]["color"], styles["noise"]["linestyle"]) == ("0.25", "--")
    rows = pd.DataFrame({"method": ["m0", "m0", "m1"], "x": [1, 1, 1], "y": [2.0, 4.0, 5.0]})
    lines = method_curves(rows, "x", {"y": "Y"}, styles, "X").axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == [[3.0], [5.0]]


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
    r, s = ({"run": run, "caption": "", "sha256": ""} for run in "rs")
    merge_manifest(tmp_path, {"a.png": r, "b.png": r, "c.png": s}, {"r": {}, "s": {}})
    assert merge_manifest(tmp_path, {"a.png": r}, {"r": {}}, replaces_runs=True) == ["b.png"]
    assert set(read_manifest(tmp_path)["files"]) == {"a.png", "c.png"}
