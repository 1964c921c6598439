"""A data set of one's own: one function, registered; then a name like any other."""

from __future__ import annotations

import numpy as np
import torch

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import DATA_SETS, ImageData, load_data


@DATA_SETS.register("stripes")
def stripes(size: int, seed: int, train: int = 400, test: int = 100) -> ImageData:
    """Grey stripes on noise; the class says in which direction they run."""
    rng = np.random.default_rng(seed)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, count)
        waves = np.sin(np.arange(size) + rng.uniform(0, 6, (count, 1)))  # (N, size)
        across = np.broadcast_to(waves[:, None, :], (count, size, size))
        striped = np.where(labels[:, None, None] == 1, across, across.transpose(0, 2, 1))
        return 0.5 + 0.3 * striped + rng.uniform(0, 0.2, striped.shape), labels

    return ImageData.from_arrays(drawn(train), drawn(test), ["lying", "standing"])


def test_a_data_set_of_ones_own(tmp_path):
    store = ArtifactStore(tmp_path)
    data = load_data("stripes", store, size=16, train=60, seed=3)
    assert (len(data.train), len(data.test), data.train.image_size) == (60, 100, (16, 16))
    again = load_data("Stripes", store, size=16, train=60, seed=3)  # read from the store
    assert again.fingerprint == data.fingerprint != load_data("stripes", store, size=16, train=60).fingerprint
    assert len(list(tmp_path.glob("data/*/data.json"))) == 2
    standing = data.test.batch(range(100)).images[:, 0]  # (100, 16, 16)
    along, across = standing.var(1).mean(1), standing.var(2).mean(1)
    assert torch.equal((across > along).long(), data.test.labels)
