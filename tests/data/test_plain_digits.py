"""The digits by themselves."""

from __future__ import annotations

import torch

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import ImageSplit, digits_in_scenes, load_data
from gan_lib.data.scenes import digit_pools, digit_samples, plain_digits


def test_plain_digits_hold_out_the_same_digits(tmp_path):
    data = plain_digits(size=32)
    assert (len(data.train), len(data.test)) == (1348, 449)
    _, labels = digit_samples()
    held_out, rest = digit_pools(1797, torch.Generator().manual_seed(0))
    assert torch.equal(data.test.labels, labels[held_out])
    assert torch.equal(data.train.labels, labels[rest])
    assert set(data.test.labels.tolist()) == set(range(10))
    assert isinstance(data.test, ImageSplit)
    inside = data.test.batch(range(20))
    assert (inside.images.mean(1, keepdim=True)[inside.masks] > 0.45).all()
    assert len(plain_digits(train=50, test=20, size=16).train) == 50
    stored = load_data("plain_digits", ArtifactStore(tmp_path), train=50, test=20, size=16)
    made = plain_digits(train=50, test=20, size=16)
    assert torch.equal(stored.test.batch(range(20)).images, made.test.batch(range(20)).images)
    # The digits drawn into scenes are the same samples: training digits are training digits.
    scene = digits_in_scenes(train=60, test=20, size=32, seed=0)
    assert scene.class_names == data.class_names
