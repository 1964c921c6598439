"""What is done otherwise than in the paper: only what is, and nothing that a profile could still change."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lib.workbench import Profile, Recipe, differences_from_paper
from gan_lib.workbench.paper import POINTS, Point

PROFILES = Path(__file__).parent.parent.parent / "notebooks/profiles"
GPU = Profile.load("gpu", PROFILES).recipe
# What the profile of the paper's sizes leaves to the user: data and weights that are not shipped; and the
# penalty without which a sigmoid may saturate.
LEFT = {"data", "CNN's weights at the start", "losses"}


def told(recipe):
    return differences_from_paper(recipe).set_index("what")


def test_every_field_that_is_compared_is_a_recipes():
    known = Recipe().flat()
    for own in POINTS:
        assert own.same.keys() <= known.keys(), own.what
        assert own.here.format(**vars(GPU)), own.what
    assert len({own.what for own in POINTS}) == len(POINTS)


def test_the_profile_of_the_papers_sizes_differs_where_it_must():
    always = {own.what for own in POINTS if not own.same}
    assert set(told(GPU).index) == always | LEFT
    published = {"data.name": "cifar10", "cnn.weights": "DEFAULT", "supervised.saturation_weight": 0.0}
    assert set(told(GPU.changed(published)).index) == always


@pytest.mark.parametrize("name", ["cpu", "smoke", "photographs"])
def test_other_profiles_say_what_they_take(name):
    recipe = Profile.load(name, PROFILES).recipe
    table = told(recipe)
    assert list(table.columns) == ["published", "here", "why"]
    assert table.map(lambda text: isinstance(text, str) and text).all(axis=None)
    assert not table["here"].str.contains("[{}]").any()
    assert table.loc["discriminator", "here"].startswith(f"spectral, {recipe.discriminator.width} channels")
    assert f"{recipe.supervised.epochs} epochs" in table.loc["generators' schedule", "here"]


def test_a_line_goes_when_a_recipe_takes_what_was_published():
    for own in POINTS:
        taken = {
            name: allowed[0] if isinstance(allowed, tuple) else allowed for name, allowed in own.same.items()
        }
        assert (own.what in told(Recipe().changed(taken)).index) == (not taken)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"discriminator.width": 32}, "discriminator"),
        ({"supervised.discriminator_every": 99}, "discriminator's updates"),
        ({"supervised.max_steps": 1000}, "generators' schedule"),
        ({"supervised.ema_decay": 0.5}, "moving average of the generators' weights"),
        ({"generator.detail": 8}, "generators' sizes"),
        ({"cnn.one_cycle": True}, "training of the CNN"),
        ({"data.image_size": 128}, "size of the images"),
    ],
)
def test_a_line_comes_with_any_field_that_is_set_otherwise(change, what):
    assert what not in told(GPU).index
    assert what in told(GPU.changed(change)).index


def test_one_of_several_published_values_will_do():
    own = Point("x", "a or b", "{cnn.architecture}", "y", {"cnn.architecture": ("a", "b"), "seed": 3})
    assert own.is_published({"cnn.architecture": "b", "seed": 3})
    assert not own.is_published({"cnn.architecture": "c", "seed": 3})
    assert not own.is_published({"cnn.architecture": "b", "seed": 4})
    assert not Point("x", "a", "b", "y").is_published({})


def test_values_are_told_in_words():
    changed = Recipe().changed({"seeds": [3, 5], "gan.published_variants": [], "cnn.input_size": 96})
    table = told(changed)["here"]
    assert "seeds 3, 5," in table["repetitions"]
    assert table["conditions"].endswith("for none")
    assert table["size of the images"] == "64 for the GAN; scaled for the CNN: 96"
    assert table["training of the CNN"].startswith("8 epochs; adamw at 0.01, one cycle: yes; batches of 64;")
