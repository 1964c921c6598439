"""Resizing by hand, and against OpenCV to the byte."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gan_lib.data.opencv import stretched


def test_resizing_by_hand():
    """Three pixels to two: centres at 0.25 and 1.75; two to four: at -0.25, 0.25, 0.75 and 1.25."""
    line = torch.tensor([[[0, 100, 200]]], dtype=torch.uint8)
    assert stretched(line, (1, 2)).tolist() == [[[25, 175]]]
    pair = torch.tensor([[[0, 200]], [[100, 255]]], dtype=torch.uint8)
    assert stretched(pair, (1, 4)).tolist() == [[[0, 50, 150, 200]], [[100, 139, 216, 255]]]
    assert stretched(pair.mT, (4, 1)).mT.tolist() == [[[0, 50, 150, 200]], [[100, 139, 216, 255]]]
    assert torch.equal(stretched(line, (1, 3)), line)
    # Of ten pixels every fifth is looked at, and its neighbours are not.
    dots = torch.zeros(1, 1, 15, dtype=torch.uint8)
    dots[..., 2::5] = 255
    assert stretched(dots, (1, 3)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("seed", range(40))
def test_the_bytes_of_opencv(seed):
    cv2 = pytest.importorskip("cv2")
    drawn = np.random.default_rng(seed)
    height, width, *size = drawn.integers(1, 200, 4).tolist()
    pixels = drawn.integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = cv2.resize(pixels, tuple(size[::-1]))
    made = stretched(torch.from_numpy(pixels).permute(2, 0, 1), tuple(size))
    assert np.array_equal(made.permute(1, 2, 0).numpy(), expected)
