"""The gpu profile on a CPU: its networks at their published sizes, in mixed precision, for a few steps.

Not a ratio but a proof that the code path runs; on two cores it takes a quarter of an hour.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lib.workbench import Places, load_profile, run_notebooks
from gan_lib.workbench.profiles import Profile

ROOT = Path(__file__).parent.parent.parent
# Numbers of images, passes and repetitions, and the parts of notebook 05 that have profiles of their own; all
# sizes of networks stay those of the profile.
AMOUNTS = {
    "train_images": 64,
    "test_images": 24,
    "cnn_epochs": 1,
    "cnn_batch_size": 16,
    "gan_images": 6,
    "gan_test_images": 4,
    "gan_epochs": 1,
    "gan_batch_size": 2,
    "seeds": [0],
    "held_out": 2,
    "contrastive_epochs": 1,
    "confounded_images": 6,
    "confounded_epochs": 1,
    "cost_rounds": 1,
    "timing_rounds": 1,
    "compared_images": 4,
    "integration_steps": 2,
    "noise_samples": 2,
    "shap_samples": 2,
    "curve_steps": 2,
    "explained_again": 2,
    "noisy_images": 1,
    "sanity_images": 2,
    "sanity_stages": 2,
    "relevance_images": 2,
    "relevance_batch_size": 2,
    "shown_images": 2,
    "ablations": ["conditions", "count", "variant", "discriminator", "width", "contrastive"],
    "ablated_counts": [1],
    "ablated_widths": [32],
    "generalisation": True,  # VGG16 and ResNet50 here; whatever is named and at hand elsewhere
    "seen_architectures": ["vgg16"],
    "unseen_architectures": ["resnet50"],
    "seen_data_sets": ["digits_in_scenes"],
    "unseen_data_sets": ["plain_digits"],
    "cell_images": 6,
    "cell_test_images": 4,
    "adapter_steps": [1],
}
ONLY = ("01", "02", "03", "04", "05")


@pytest.mark.timeout(3600)
def test_published_sizes(tmp_path):
    places = Places.of(ROOT, figures=tmp_path / "figures", data=tmp_path / "data")
    published = load_profile("gpu", places.notebooks / "profiles").parameters
    profile = Profile("gpu", {**published, **AMOUNTS, "precision": "bf16-mixed"})
    results = list(run_notebooks(profile, places, ONLY))
    assert [(result.notebook[:2], result.error) for result in results] == [(name, "") for name in ONLY]
