"""Text stays in the room it has: lines by hand, and what matplotlib draws, measured against the tiles."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from PIL import ImageFont

from gan_lib.figures import image_grid, map_grid, matrix_panels
from gan_lib.figures.fitting import DPI, SIZES, fit_together, fitted_lines, shortened, text_width
from gan_lib.workbench.contact_sheet import FONT, GAP, WORDS, _words

LONG = "English springer spaniel, Norwegian elkhound or n02102040_German_short-haired_pointer"


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("text", "most", "lines"),
    [
        ("one two three", None, ["one two", "three"]),  # 7 letters fit, a space counts
        ("one\ntwo", None, ["one", "two"]),
        ("", None, [""]),
        ("a_bc_defgh", None, ["a_bc_", "defgh"]),  # behind an underscore
        ("abcdefghij x", None, ["abcdefg", "hij x"]),
        ("one two three four", 2, ["one two", "three…"]),
        ("one two three", 1, ["one tw…"]),
        ("one two", 1, ["one two"]),
    ],
)
def test_lines_of_seven_letters_by_hand(text, most, lines):
    assert fitted_lines(text, 7, len, most) == lines


def test_a_room_that_is_too_small_for_a_letter_ends():
    assert fitted_lines("abc", 0.5, len) == ["a", "b", "c"]
    assert shortened("abc", 0.5, len) == "…"
    assert shortened("abc", 3, len) == "abc"


def test_the_largest_size_in_which_no_word_is_broken():
    wide = text_width("Norwegian", 7) + 0.1
    assert fit_together(["Norwegian", "x"], wide) == (["Norwegian", "x"], 7)
    assert fit_together(["Norwegian"], text_width("Norwegian", 8)) == (["Norwegian"], 8)
    texts, size = fit_together(["Norwegian"], wide / 2)
    assert size == SIZES[-1]
    assert texts[0].replace("\n", "") == "Norwegian"
    assert len(fit_together([LONG], 40, high=20)[0][0].split("\n")) <= 20 / 6


def boxes(figure, texts):
    return [text.get_window_extent(figure.canvas.get_renderer()) for text in texts if text.get_text()]


def tiles(figure):
    return [axis for axis in figure.axes if axis.images]


@pytest.mark.parametrize(
    ("cell", "size", "columns"),
    [(1.05, (8, 8), 10), (0.6, (8, 8), 12), (1.2, (40, 10), 6), (1.5, (10, 40), 3)],
)
def test_titles_labels_and_captions_stay_at_their_tiles(cell, size, columns):
    """Long names, short tiles, many columns: measured as they are saved."""
    maps = torch.rand(3, 1, *size)
    titles = [f"{LONG} {number}" for number in range(columns)]
    figure = map_grid(
        dict.fromkeys(titles, maps), [LONG] * 3, cell, captions={titles[1]: [LONG, 0.25, "x\ny"]}
    )
    figure.set_dpi(DPI)
    figure.canvas.draw()
    drawn = tiles(figure)
    assert len(drawn) == 3 * columns
    for axis in drawn:
        own = axis.get_window_extent()
        for box in boxes(figure, [axis.title]):
            assert own.x0 - 1 <= box.x0
            assert box.x1 <= own.x1 + 1
            assert box.y0 >= own.y1
        for box in boxes(figure, [axis.yaxis.label]):
            assert own.y0 - 1 <= box.y0
            assert box.y1 <= own.y1 + 1
            assert box.x1 <= own.x0
        for box in boxes(figure, axis.texts):
            assert own.x0 <= box.x0
            assert box.x1 <= own.x1
            assert own.y0 <= box.y0
            assert box.y1 <= own.y1
    assert sum(len(axis.texts) for axis in drawn) == 3
    assert drawn[0].get_title().replace("\n", "").startswith("English")
    assert any(text.get_text().replace("\n", "") == "0.25" for axis in drawn for text in axis.texts)


def test_titles_in_a_grid_of_images_stay_inside():
    images, masks = torch.rand(13, 3, 8, 8), torch.rand(13, 1, 8, 8) > 0.5
    figure = image_grid(images, masks, [LONG] * 13)
    figure.set_dpi(DPI)
    figure.canvas.draw()
    told = [axis for axis in tiles(figure) if axis.texts]
    assert len(told) == 13
    assert not any(axis.images[0].get_array().ndim == 2 for axis in told), "on images, not on masks"
    for axis in told:
        own, (box,) = axis.get_window_extent(), boxes(figure, axis.texts)
        assert own.x0 <= box.x0
        assert box.x1 <= own.x1
        assert own.y0 <= box.y0
        assert box.y1 <= own.y1


def test_short_words_are_left_as_they_are():
    figure = map_grid({"image": torch.rand(1, 3, 8, 8)}, ["cat"], captions={"image": ["dog"]})
    axis = figure.axes[0]
    assert (axis.get_title(), axis.get_ylabel(), axis.texts[0].get_text()) == ("image", "cat", "dog")
    assert axis.title.get_fontsize() == SIZES[0]


def test_the_words_of_a_contact_sheet_fit():
    font = ImageFont.truetype(FONT, 13)
    row = {
        "name": "W" * 60,
        "prediction": LONG,
        "probability": "0.5",
        "target": LONG + "!",
        "target_probability": "0.2",
    }
    lines = _words(row, font).split("\n")
    assert len(lines) == 8
    assert max(map(font.getlength, lines)) <= WORDS - 2 * GAP
    assert lines[-1].endswith("…")


def test_a_picture_that_is_the_one_above_is_drawn_once():
    images = torch.rand(3, 3, 8, 8)
    images[1] = images[0]
    figure = map_grid({"image": images, "map": torch.zeros(3, 1, 8, 8)}, colour_bar=False, once=["image"])
    assert [bool(axis.images) for axis in figure.axes] == [True, True, False, True, True, True]


def test_the_columns_of_a_matrix_do_not_run_into_each_other():
    names = [f"{LONG} {number}" for number in range(6)]
    figure = matrix_panels({"t": pd.DataFrame(0.5, index=names, columns=names)}, columns=1)
    figure.set_dpi(DPI)
    figure.canvas.draw()
    drawn = boxes(figure, figure.axes[0].get_xticklabels())
    assert len(drawn) == 6
    rows = boxes(figure, figure.axes[0].get_yticklabels())
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(rows))
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(drawn))
