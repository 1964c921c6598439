"""What one explanation of a CNN never met costs, over one forward pass of the CNN; Grad-CAM's beside it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import median_seconds

from gan_lib.classifiers import make_classifier
from gan_lib.explainers import EvidenceProjection, GradCAM, UniversalExplainer
from gan_lib.gan.conditions import evidence_channels
from gan_lib.gan.generators import make_generator
from gan_lib.workbench import Places, Sweep, Workbench

SIZE = 224


@pytest.mark.parametrize(("batch", "rounds"), [(1, 15), (32, 3)])
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "squeezenet1_1"])
def test_universal_explanation(record, benchmark, name, batch, rounds):
    """Generators of the sizes that are shipped for photographs; time does not depend on their weights."""
    places = Places.find()
    sweep = Sweep.load(places.notebooks / "sweeps" / "universal_photographs.yaml")
    recipe = Workbench("bench", sweep.profile, sweep.changes, places).recipe
    cnn = make_classifier(name).eval().requires_grad_(False)
    images, layers = torch.rand(batch, 3, SIZE, SIZE), recipe.evidence.layers

    def forward() -> None:
        with torch.no_grad():
            cnn(images)

    contestants = {
        "forward pass": forward,
        "Grad-CAM": partial(GradCAM(cnn).attribute, images),
        "evidence projection": partial(EvidenceProjection(cnn, layers).attribute, images),
    }
    for variant in ("lsft", "gsft"):
        channels = evidence_channels(layers)
        sizes = {key: own for key, own in vars(recipe.evidence).items() if key != "layers"}
        generator = make_generator(variant, conditions=len(channels), features=channels, **sizes).eval()
        own = UniversalExplainer(cnn, (SIZE, SIZE), generator, layers).prepare((SIZE, SIZE))
        contestants[f"universal {variant}"] = partial(own.attribute, images)
    seconds = median_seconds(contestants, rounds)
    what = f"one explanation, {name}, {batch} image{'s' if batch > 1 else ''} at {SIZE} px"
    for method in list(contestants)[1:]:
        record(what, method, "forward pass", seconds[method] / seconds["forward pass"], rounds)
    benchmark.pedantic(contestants["universal lsft"], rounds=3)
