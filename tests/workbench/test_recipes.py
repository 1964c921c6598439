"""Recipes, profiles and places."""

from __future__ import annotations

import pytest

from gan_lib.workbench import Places, Profile, ProfileError, Recipe, parsed_change
from gan_lib.workbench.places import FIGURES


def test_changes_by_dotted_name_and_in_sections():
    recipe = Recipe().changed({"contrastive.epochs": 3, "data": {"name": "mnist"}, "seeds": [4, 5]})
    assert recipe.contrastive.epochs == 3
    assert recipe.contrastive.batch_size == Recipe().contrastive.batch_size
    assert (recipe.data.name, recipe.data.image_size) == ("mnist", 64)
    assert recipe.seeds == (4, 5)
    assert Recipe().contrastive.epochs == 2, "the defaults are as they were"
    assert recipe.changed({"contrastive.area": [0.1, 0.2]}).contrastive.area == (0.1, 0.2)
    assert recipe.flat()["inversion.second.iterations"] == 20


def test_settings_of_methods_are_free():
    recipe = Recipe().changed({"judge": {"settings": {"mine": {"depth": 3}, "smoothgrad": {"samples": 2}}}})
    assert recipe.judge.settings["mine"] == {"depth": 3}
    assert recipe.judge.settings["smoothgrad"] == {"samples": 2}
    assert recipe.judge.settings["occlusion"] == {"window": 16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrastive.epoch": 3}, "there is no 'contrastive.epoch'; did you mean contrastive.epochs"),
        ({"contrast": 3}, "there is no 'contrast'"),
        ({"data": {"nam": "x"}}, "there is no 'data.nam'; did you mean data.name"),
        ({"contrastive.epochs": "x"}, "contrastive.epochs: Input should be a valid integer"),
        ({"contrastive.epochs": 1.5}, "contrastive.epochs"),
        ({"contrastive.epochs": True}, "contrastive.epochs"),
        ({"contrastive.area": [0.5, 0.2]}, "area needs 0 < low <= high < 1"),
        ({"machine.precision": "16"}, "machine.precision"),
        ({"data": 3}, "data: "),
        ({"data.name.x": 1}, "data.name: Input should be a valid string"),
        ({"seeds": {"a": 1}}, "seeds"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ProfileError, match=message):
        Recipe().changed(changes)


def has_count(value):
    return not isinstance(value, bool) and isinstance(
        value[0] if value and isinstance(value, tuple) else value, int
    )


# Where 0 says something: none of them, the first of them, not at all.
ZERO_WILL_DO = {
    *("seed", "seeds", "cnn.epochs", "data.validation_images", "generator.detail", "features.detail"),
    *("supervised.warmup_steps", "contrastive.warmup_steps", "judge.explained_again", "judge.noisy_images"),
    *("relevance.planted_place", "concepts.noise_copies", "concepts.shown", "contrasting.pair"),
    *("inversion.second.halved_every", "inversion.settled_images", "explorer.rival"),
    *("study.forward_questions", "study.attention_checks"),
}
COUNTS = {
    name: value
    for name, value in Recipe().flat().items()
    if has_count(value) and not name.startswith("judge.settings") and not name.endswith(".seed")
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [-1, 0])
def test_a_count_that_makes_no_sense_is_named(name, count):
    value = (count, *COUNTS[name][1:]) if isinstance(COUNTS[name], tuple) else count
    if count == 0 and name in ZERO_WILL_DO:
        assert Recipe().changed({name: value}).flat()[name] == value
        return
    with pytest.raises(ProfileError, match=name.rpartition(".")[2]):
        Recipe().changed({name: value})


def test_counts_are_all_looked_at():
    assert len(COUNTS) > 70
    assert set(COUNTS) >= ZERO_WILL_DO
    with pytest.raises(ProfileError, match=r"judge\.areas\.0: Input should be less than 1"):
        Recipe().changed({"judge.areas": [1.0]})
    with pytest.raises(
        ProfileError, match=r"judge\.methods\.1: unknown method 'sailency'; did you mean saliency"
    ):
        Recipe().changed({"judge.methods": ["grad-cam", "sailency"]})
    assert Recipe().changed({"judge.methods": ["Grad-CAM"]}).judge.methods == ("grad_cam",)


def test_profiles(tmp_path):
    (tmp_path / "mine.yaml").write_text("contrastive: {epochs: 2}\nseeds: [7]\n")
    by_name = Profile.load("mine", tmp_path)
    assert by_name == Profile.load(str(tmp_path / "mine.yaml"), tmp_path / "elsewhere")
    assert by_name.name == "mine"
    assert by_name.recipe.contrastive.epochs == 2
    assert Profile.load("mine", tmp_path, {"seeds": [1]}).recipe.seeds == (1,)
    for text in ("value: {a: 1}", "- 1", "a: [1", "contrastive: 3"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ProfileError):
            Profile.load("bad", tmp_path)
    with pytest.raises(ProfileError, match="mine"):
        Profile.load("theirs", tmp_path)


def test_changes_as_text():
    assert parsed_change("seeds=[0, 1]") == ("seeds", [0, 1])
    assert parsed_change("data.name=a=b") == ("data.name", "a=b")
    for text in ("seeds", "=3", "a=[1"):
        with pytest.raises(ProfileError):
            parsed_change(text)


def test_places_are_found_from_below(tmp_path, monkeypatch):
    (tmp_path / "notebooks/profiles").mkdir(parents=True)
    (tmp_path / "notebooks/studies").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks/studies")
    monkeypatch.delenv(FIGURES, raising=False)
    places = Places.find()
    assert places.data == tmp_path / "data"
    assert places.figures == tmp_path / "figures"
    monkeypatch.setenv(FIGURES, str(tmp_path / "staged"))
    assert Places.find().figures == tmp_path / "staged"
    (tmp_path / "notebooks/profiles").rmdir()
    with pytest.raises(FileNotFoundError, match="no project"):
        Places.find()
