"""The prediction test, held out, over CNNs and layers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from gan_lib.classifiers import make_classifier
from gan_lib.workbench import Places, ProfileError, Sweep, run_sweep
from gan_lib.workbench.held_out import HeldOutOptions, _published, held_out_summary

ROOT = Path(__file__).parents[2]


def scores(won, **labels):
    """Of one CNN and layer, two seeds: per class whether it won."""
    given = {"layer": "a", "depth": "late", "cell": "2 x 2 of 8 x 8", "accuracy": 90.0, **labels}
    rows = [
        {"image": label, "seed": seed, "form": "4 crops", "method": "prototypes", "won": 100.0 * own, **given}
        for seed in range(2)
        for label, own in enumerate(won[seed])
    ]
    return pd.DataFrame(rows)


def test_every_cnn_and_all_of_a_depth_together():
    parts = [
        scores(([1, 1, 0, 0], [1, 1, 1, 0]), network="one"),
        scores(([1, 0], [1, 0]), network="two"),
        scores(([1, 0], [0, 0]), network="one", layer="b", depth="earlier"),
    ]
    made = held_out_summary(pd.concat(parts, ignore_index=True)).set_index(["network", "depth"])
    assert made["mean"].to_dict() == pytest.approx(
        {("one", "late"): 62.5, ("two", "late"): 50.0, ("one", "earlier"): 25.0, ("all", "late"): 700 / 12}
    )
    assert made.loc[("all", "late"), "n"] == 6, "a class of one CNN is not the same class of another"
    assert set(made["seeds"]) == {2}
    assert ((made["low"] <= made["mean"]) & (made["mean"] <= made["high"])).all()


def test_what_was_published_has_the_interval_of_so_many_classes():
    made = _published(HeldOutOptions(published={"6 crops, strict": (710, 1000)}, published_as="theirs"))
    (row,) = made.to_dict("records")
    assert (row["network"], row["form"], row["n"]) == ("theirs", "6 crops, strict", 1000)
    assert row["mean"] == pytest.approx(71.0)
    half = 1.9623 * (0.71 * 0.29 / 999) ** 0.5 * 100  # Student's t of 999 degrees of freedom
    assert (row["low"], row["high"]) == pytest.approx((71 - half, 71 + half), abs=1e-3)


def test_the_resnet_of_the_sweep_has_the_usual_shape():
    made = make_classifier("resnet20", [*"abcdefghij"])
    assert (
        sum(own.numel() for own in made.parameters()) == 269_722
    )  # 0.27 million (arXiv 1512.03385, table 6)
    assert made.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    block = made.backbone.layer2[0]
    for one in (block.conv1, block.conv2):
        torch.nn.init.zeros_(one.weight)
    images = torch.rand(1, 16, 4, 4)
    out = block.eval()(images)  # nothing but the shortcut is left: every second place, zeros around
    assert torch.equal(out[:, 8:24], images[..., ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_the_resnet_takes_its_weights(test_data):
    weights = test_data / "weights/resnet20_cifar10.safetensors"
    made = make_classifier("resnet20", [*"abcdefghij"], str(weights))
    assert made.backbone.linear.weight.abs().sum() > 0


def sweep(**changes):
    settings = [
        {"network": "VGG", "depth": "late", "concepts.layer": None},
        {"network": "again", "depth": "earlier", "concepts.layer": None, "concepts.pooling": 3},
    ]
    own = {
        "title": "t",
        "profile": "smoke",
        "runner": "prediction_test",
        "settings": settings,
        "seeds": [0, 1],
    }
    few = {"concepts.classes": [0, 3, 8], "concepts.crop_counts": [4], "concepts.noise_copies": 0}
    own["changes"] = {"concepts.crop_candidates": [1], **few}
    return {**own, **changes}


def test_a_sweep_writes_results_classes_and_pictures(tmp_path):
    file = tmp_path / "held_out.yaml"
    shown = {"shown": {"VGG": 3}, "drawn": "late", "runs": 1, "published": {"4 crops": [3, 4]}}
    file.write_text(json.dumps(sweep(options=shown)))
    places = Places.of(ROOT, tmp_path / "figures", tmp_path / "data")
    results, classes = (pd.read_csv(path) for path in run_sweep(Sweep.load(file), places))
    assert set(results["network"]) == {"VGG", "again", "published"}
    assert set(results["form"]) == {"4 crops", "4 crops, strict", "4 crops, strict by label"}
    assert set(results.loc[results["network"] == "VGG", "seeds"]) == {2}
    own = results[(results["network"] == "VGG") & (results["measure"] == "won")]
    mine = classes[classes["network"] == "VGG"].groupby(["form", "method"])["won"].mean()
    for row in own.to_dict("records"):
        assert row["mean"] == pytest.approx(mine[row["form"], row["method"]], abs=1e-3)
    there = {path.name for path in (tmp_path / "figures/held_out").iterdir()}
    tables = {"results.csv", "classes.csv", "results.parquet", "classes.parquet"}
    assert there == {"concepts_VGG.png", "montages_VGG.png", *tables}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": {"rounds": 1}}, "rounds"),
        ({"options": {"published": {"4 crops": [5, 4]}}}, r"4 crops: how many won of how many, not \[5, 4\]"),
        ({"settings": [{"network": "VGG"}]}, "needs network and depth"),
    ],
)
def test_what_is_no_such_sweep(tmp_path, changes, told):
    file = tmp_path / "held_out.yaml"
    file.write_text(json.dumps(sweep(**changes)))
    with pytest.raises(ProfileError, match=told):
        run_sweep(Sweep.load(file), Places.of(ROOT, tmp_path / "figures", tmp_path / "data"))
