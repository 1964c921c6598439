"""What a computation runs on."""

from __future__ import annotations

import torch

from gan_lib.core.runtime import image_generators


def test_generators_depend_on_the_image_and_the_seed(images):
    def draws(pictures, seed):
        return [int(torch.randint(10**9, (1,), generator=own)) for own in image_generators(pictures, seed)]

    first = draws(images, 0)
    assert len(set(first)) == 3
    assert draws(images[[2, 0]], 0) == [first[2], first[0]]
    assert not set(first) & set(draws(images, 1))
