"""The gpu profile on a CPU: its networks at their published sizes, in mixed precision, for a few steps.

Not a ratio but a proof that the code path runs; on two cores it takes a quarter of an hour.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lib.workbench import Places
from gan_lib.workbench.driver import run_notebooks

ROOT = Path(__file__).parent.parent.parent
# Numbers of images, passes and repetitions, and images that the CNN sees as they are; all sizes of networks
# stay those of the profile.
AMOUNTS = {
    "seeds": [0],
    "shown_images": 2,
    "machine": {"precision": "bf16-mixed"},
    "data": {"train_images": 64, "test_images": 24},
    "cnn": {"epochs": 1, "batch_size": 16, "input_size": None},
    "gan": {"images": 6, "test_images": 4},
    "supervised": {"epochs": 1, "batch_size": 2},
    "contrastive": {"epochs": 1, "batch_size": 2, "held_out": 2},
    "confounded": {"images": 6, "epochs": 1},
    "judge": {
        "images": 4,
        "settings": {
            "integrated_gradients": {"steps": 2},
            "smoothgrad": {"samples": 2},
            "gradient_shap": {"samples": 2},
        },
        "curve_steps": 2,
        "explained_again": 2,
        "noisy_images": 1,
        "sanity_images": 2,
        "sanity_stages": 2,
        "timing_rounds": 1,
        "cost_rounds": 1,
    },
    "relevance": {"images": 2, "batch_size": 2},
}
ONLY = ("01", "02", "03", "04", "05")


@pytest.mark.timeout(3600)
def test_published_sizes(tmp_path):
    places = Places.of(ROOT, figures=tmp_path / "figures", data=tmp_path / "data")
    results = list(run_notebooks("gpu", places, ONLY, changes=AMOUNTS))
    assert [(result.notebook[:2], result.error) for result in results] == [(name, "") for name in ONLY]
