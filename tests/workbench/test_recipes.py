"""Recipes, profiles and places."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from gan_lib.concepts import layers
from gan_lib.core.artifacts import digest
from gan_lib.workbench import Places, Profile, ProfileError, Recipe, Sweep, parsed_change, sections
from gan_lib.workbench.places import FIGURES
from gan_lib.workbench.values import plain


def test_changes_by_dotted_name_and_in_sections():
    recipe = Recipe().changed({"contrastive.epochs": 3, "data": {"name": "mnist"}, "seeds": [4, 5]})
    assert recipe.contrastive.epochs == 3
    assert recipe.contrastive.batch_size == Recipe().contrastive.batch_size
    assert (recipe.data.name, recipe.data.image_size) == ("mnist", 64)
    assert recipe.seeds == (4, 5)
    assert Recipe().contrastive.epochs == 2, "the defaults are as they were"
    assert recipe.changed({"contrastive.area": [0.1, 0.2]}).contrastive.area == (0.1, 0.2)
    assert recipe.flat()["inversion.second.iterations"] == 20


def test_fields_that_came_later_leave_addresses_as_they_were():
    """While they are as usual: what was made before there were such fields is found, and told from others."""
    plain = Recipe()
    assert digest(plain.cnn.made_from()) == "cfa176e8591638c5"
    assert plain.discriminator.made_from() == {"width": 16, "stem_stride": 8}
    later = {"optimizer": "sgd", "one_cycle": False, "validation": 0.1, "input_size": 96}
    for name, value in later.items():
        made = plain.changed({f"cnn.{name}": value}).cnn.made_from()
        assert made == {**plain.cnn.made_from(), name: value}
    published = plain.changed({"discriminator.kind": "Published"}).discriminator
    assert published.made_from() == {"width": 16, "stem_stride": 8, "kind": "published"}
    assert Recipe().changed({"cnn.input_size": 96}).cnn.about() == {"input_size": (96, 96)}


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
        ({"": 1}, "there is no ''"),
        ({".".join("a" * 5000): 1}, "there is no 'a.a"),
        ({"seeds": ["a"]}, r"seeds\.0: Input should be a valid integer.*not 'a'"),
        ({"seeds": []}, "seeds: Tuple should have at least 1 item"),
        ({"seeds": [1, 0, 1]}, "seeds: 1 stands there twice"),
        ({"seeds": 3}, "seeds: "),
        ({"seed": 2**32}, "seed: Input should be less than 4294967296"),
        ({"seed": None}, "seed: Input should be a valid integer, not None"),
        ({"asked": [["a.png"]]}, r"asked\.0"),
        ({"asked": [["", "cat"]]}, r"asked\.0\.0: String should have at least 1"),
        (
            {"machine.device": "gpu"},
            "machine.device: Input should be 'auto', 'cpu', 'cuda' or 'mps', not 'gpu'",
        ),
        ({"machine.threads": 5000}, "machine.threads: Input should be less than or equal to 1024"),
        ({"machine.reproducible": 1}, "machine.reproducible: Input should be a valid boolean"),
        ({"data": None}, "data: a section holds names and values, not None"),
        ({"data.image_size": -3}, "data.image_size: Input should be greater than or equal to 8, not -3"),
        ({"data.image_size": 10**6}, "data.image_size: Input should be less than or equal to 4096"),
        ({"data.name": ""}, "data.name"),
        ({"data.name": "a\nb"}, "data.name"),
        ({"data.name": ["mnist"]}, "data.name: Input should be a valid string"),
        ({"cnn.architecture": "slim-vgg"}, "unknown CNN 'slim-vgg'; did you mean slim_vgg"),
        ({"cnn.architecture": "resnet51"}, "did you mean resnet50"),
        ({"cnn.architecture": "my models:make"}, r"One of your own is package\.module:factory"),
        ({"cnn.architecture": "a:b:c"}, "unknown CNN 'a:b:c'"),
        ({"cnn.architecture": "../nets.txt:make"}, "unknown CNN"),
        ({"cnn.mean": [0.5, 0.5]}, "cnn.mean"),
        ({"cnn.std": [0.5, 0.0, 0.5]}, "cnn.std"),
        ({"cnn.output": "softmax"}, "cnn.output"),
        ({"cnn.span": [1.0, "a"]}, "cnn.span"),
        ({"cnn.source": "shipped"}, "cnn.source: Input should be 'reference' or 'train'"),
        ({"cnn": "training"}, "cnn.source"),
        ({"cnn.head": "liner"}, "cnn.head: Input should be 'linear' or 'published'"),
        ({"cnn.weights": ""}, "cnn.weights"),
        ({"cnn.learning_rate": 0}, "cnn.learning_rate: Input should be greater than 0"),
        ({"cnn.learning_rate": "1e-3"}, "cnn.learning_rate: Input should be a valid number"),
        ({"cnn.weight_decay": -0.1}, "cnn.weight_decay"),
        ({"cnn.seed": -1}, "cnn.seed"),
        ({"cnn.epochs": -1}, "cnn.epochs"),
        ({"cnn.input_size": 7}, "cnn.input_size: Input should be greater than or equal to 8, not 7"),
        ({"cnn.input_size": [256, 256]}, "cnn.input_size"),
        ({"cnn.optimizer": "SGD"}, "cnn.optimizer: Input should be 'adamw', 'adam' or 'sgd', not 'SGD'"),
        ({"cnn.one_cycle": 0}, "cnn.one_cycle: Input should be a valid boolean"),
        ({"cnn.validation": 1}, "cnn.validation: Input should be less than 1, not 1"),
        ({"gan.variants": []}, "gan.variants"),
        ({"gan.variants": ["lsft", "LSFT"]}, "gan.variants: 'lsft' stands there twice"),
        ({"gan.variants": ["lsf"]}, r"gan\.variants\.0: unknown generator 'lsf'; did you mean lsft"),
        ({"gan.conditions": "cgm"}, "unknown kind of conditions 'cgm'; did you mean cgma"),
        ({"gan.conditions": "planted/x"}, "conditions are a name, or a name/place, not 'planted/x'"),
        ({"discriminator.kind": "publishd"}, "unknown discriminator 'publishd'; did you mean published"),
        ({"discriminator.width": 0}, "discriminator.width: Input should be greater than 0"),
        ({"critic.kind": "published"}, "there is no 'critic.kind'"),
        ({"generator.stem_stride": 3}, "generator.stem_stride: Input should be 1, 2, 4 or 8, not 3"),
        ({"supervised.epochs": 0}, "supervised.epochs: Input should be greater than 0, not 0"),
        ({"supervised.beta1": 1.0}, "supervised.beta1: Input should be less than 1"),
        ({"supervised.final_learning_rate": 1.5}, "supervised.final_learning_rate"),
        ({"supervised.saturation_weight": -1}, "supervised.saturation_weight"),
        ({"supervised.adversarial": "wgan"}, "supervised.adversarial: Input should be 'bce' or 'hinge'"),
        ({"contrastive.temperature": 0}, "contrastive.temperature: Input should be greater than 0, not 0"),
        ({"contrastive.ranked": 1.1}, "contrastive.ranked: Input should be less than or equal to 1"),
        ({"contrastive.ema_decay": -0.1}, "contrastive.ema_decay"),
        ({"contrastive.mosaics": ["besides"]}, r"contrastive\.mosaics\.0: Input should be 'beside', 'above'"),
        ({"contrastive.fills": ["blak"]}, r"contrastive\.fills\.0: unknown fill 'blak'; did you mean black"),
        ({"contrastive.fills": []}, "contrastive.fills"),
        ({"contrastive.area": [0.1]}, "contrastive.area"),
        ({"judge.methods": ["grad_cam", "Grad-CAM"]}, "judge.methods: 'grad_cam' stands there twice"),
        ({"judge.trained": ["contrastive"]}, r"judge\.trained\.0: unknown method 'contrastive'"),
        ({"judge.road_shares": [0.3, 1.2]}, r"judge\.road_shares\.1"),
        ({"judge.settings": {"smoothgrad": 12}}, r"judge\.settings\.smoothgrad: Input should be an object"),
        ({"judge.settings": []}, r"judge\.settings: Input should be an object"),
        ({"relevance.planted_variants": [3]}, r"relevance\.planted_variants\.0"),
        ({"concepts.relevance": "deeplift"}, "concepts.relevance: Input should be 'deep_lift'"),
        ({"concepts.classes": []}, "concepts.classes"),
        ({"concepts.shown": [3, 3]}, "concepts.shown: 3 stands there twice"),
        ({"contrasting.strength": 0.0}, "contrasting.strength"),
        ({"contrasting.pair": [3, 3]}, "contrasting.pair: 3 stands there twice"),
        ({"contrasting.pair": [1, 2, 3]}, "contrasting.pair"),
        (
            {"contrasting.shift_offsets": ["0"]},
            r"contrasting\.shift_offsets\.0: Input should be a valid number",
        ),
        ({"confounded.areas": [0.3, 0.2]}, r"confounded\.areas: needs low <= high, not \(0\.3, 0\.2\)"),
        ({"inversion.sigma": -1}, "inversion.sigma"),
        ({"inversion.second.keep": "first"}, r"inversion\.second\.keep: Input should be 'best' or 'last'"),
        ({"inversion.second.area": -1}, r"inversion\.second\.area"),
        ({"inversion.second": {"iteration": 3}}, r"did you mean inversion\.second\.iterations"),
        ({"explorer.cnn": ""}, "explorer.cnn"),
        ({"evidence.joint": "sum"}, r"evidence\.joint: Input should be 'mean' or 'product'"),
        ({"evidence.joint": "product", "evidence.prior": False}, "as joint is: not without prior"),
        ({"evidence.emphasis": 2.0, "evidence.prior": False}, "emphasis is .* not without prior"),
        ({"study.methods": ["grad_cam"]}, "study.methods: .* at least 2 items"),
        ({"study.tastes": [-0.5]}, r"study\.tastes\.0"),
        ({"study.spacing": -1}, "study.spacing"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ProfileError, match=message):
        Recipe().changed(changes)


NOT_ANY_NUMBER = {name: value for name, value in Recipe().flat().items() if isinstance(value, float)}


@pytest.mark.parametrize("name", NOT_ANY_NUMBER)
def test_every_number_has_a_range(name):
    assert len(NOT_ANY_NUMBER) > 25
    for value in (float("nan"), float("inf"), -1e9):
        with pytest.raises(ProfileError, match=name):
            Recipe().changed({name: value})


TEXTS = {name for name, value in Recipe().flat().items() if isinstance(value, str) and "settings" not in name}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_text_is_a_choice_or_has_letters(name):
    with pytest.raises(ProfileError, match=name):
        Recipe().changed({name: ""})


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"cnn.architecture": "my_models:make_net"}, "cnn.architecture", "my_models:make_net"),
        ({"cnn.architecture": "nets.mine:make"}, "cnn.architecture", "nets.mine:make"),
        ({"cnn.architecture": "resnet50"}, "cnn.architecture", "resnet50"),
        ({"cnn": "train"}, "cnn.source", "train"),
        ({"gan.conditions": "Last Grad-CAM"}, "gan.conditions", "last_grad_cam"),
        ({"gan.conditions": "planted/3"}, "gan.conditions", "planted/3"),
        ({"seeds": (2, 1)}, "seeds", (2, 1)),
        ({"cnn.learning_rate": 1}, "cnn.learning_rate", 1.0),
        ({"cnn.learning_rate": np.float64(0.5)}, "cnn.learning_rate", 0.5),
        ({"data.train_images": None}, "data.train_images", None),
        ({"supervised.ema_decay": 0}, "supervised.ema_decay", 0.0),
        ({"contrastive.ranked": 1}, "contrastive.ranked", 1.0),
        ({"contrastive.mosaics": []}, "contrastive.mosaics", ()),
        ({"judge.methods": []}, "judge.methods", ()),
    ],
)
def test_what_fits(changes, name, value):
    assert Recipe().changed(changes).flat()[name] == value


def test_choices_are_those_of_the_rooms():
    assert get_args(sections.PlaceRelevance) == layers.METHODS


class Sneaky(str):
    def __str__(self):
        return '"; import os; "'


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        {1},
        {1: 2},
        datetime.date(2026, 1, 1),
        Path("x"),
        np.int64(3),
        np.zeros(2),
        object(),
        complex(1, 2),
        range(3),
        float("nan"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrapped", [lambda own: own, lambda own: [1, own], lambda own: {"a": [{"b": own}]}])
def test_only_plain_values_are_taken(value, wrapped):
    with pytest.raises(ProfileError, match=r"^changes: judge\.settings\.mine"):
        Recipe().changed({"judge.settings.mine": {"own": wrapped(value)}})


def test_plain_values_are_copies_of_the_plain_kinds():
    """As text is how they get into a notebook: nothing of theirs may run there."""
    made = plain({Sneaky("name"): [Sneaky("a"), np.float64(0.5), True, None, (2,)]}, "changes")
    assert made == {"name": ["a", 0.5, True, None, [2]]}
    ((name, values),) = made.items()
    assert [type(own) for own in (name, *values)] == [str, str, float, bool, type(None), list]


def has_count(value):
    return not isinstance(value, bool) and isinstance(
        value[0] if value and isinstance(value, tuple) else value, int
    )


# Where 0 says something: none of them, the first of them, not at all.
ZERO_WILL_DO = {
    *("seed", "seeds", "cnn.epochs", "data.validation_images", "generator.detail", "features.detail"),
    *("evidence.detail", "universal.warmup_steps"),
    *("supervised.warmup_steps", "contrastive.warmup_steps", "judge.explained_again", "judge.noisy_images"),
    *("relevance.planted_place", "concepts.noise_copies", "concepts.shown", "contrasting.pair"),
    "contrasting.by_hand_images",
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
    assert by_name.folder == tmp_path
    with pytest.raises(ProfileError, match=r"there is no .*theirs\.yaml; known: \['mine'\]"):
        Profile.load("theirs", tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ProfileError, match=r"folder\.yaml is a folder"):
        Profile.load("folder", tmp_path)


LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("value: {a: 1}", "there is no 'value'"),
        ("- 1", "must map names to values, not hold a list"),
        ("[]", "must map names to values, not hold a list"),
        ("false", "must map names to values, not hold 'False' alone"),
        ("cpu", "must map names to values, not hold 'cpu' alone"),
        ("a: [1", "line 1"),
        ("a: 1\n\tb: 2", "line 2"),
        ("contrastive: 3", "contrastive: a section holds names and values, not 3"),
        ("contrastive:", "contrastive: a section holds names and values, not None"),
        ("seeds: [0]\nseeds: [1]", "line 2: 'seeds' stands there twice"),
        ("data: {name: mnist, name: emnist}", "line 1: 'name' stands there twice"),
        ("data.name: mnist\ndata: {nam: x}", "did you mean data.name"),
        ("1: 2", "1 is no name"),
        ("null: 2", "None is no name"),
        ("? [1]\n: 2", "line 1"),
        ("a: !!binary aGVsbG8=", "line 1: the tag 'binary' is refused"),
        ("a: 2026-01-01", "line 1: a date is no value: put it in quotes"),
        ("a: !!timestamp 2026-01-01", "a date is no value"),
        ("a: !!set {x, y}", "the tag 'set' is refused"),
        ("a: !!omap [x: 1]", "the tag 'omap' is refused"),
        ("a: !!pairs [x: 1]", "the tag 'pairs' is refused"),
        ("a: !!python/object/apply:os.system [x]", "the tag 'python/object/apply:os.system' is refused"),
        ("a: !!python/name:os.system", "is refused"),
        ("a: !!python/tuple [1]", "is refused"),
        ("a: !mine 1", "the tag '!mine' is refused"),
        ("judge: {settings: {occlusion: {window: [1, !!set {x}]}}}", "the tag 'set' is refused"),
        ("a: &a [*a]", "more than 20 levels"),
        (LAUGHS, "100000 values"),
        (f"a: {'[' * 30}{']' * 30}", "more than 20 levels"),
        (f"a: {'[' * 20000}", "nested too deeply"),
        ("a: .nan", "a: nan is no finite number"),
        (
            "judge: {settings: {occlusion: {window: -.inf}}}",
            "judge.settings.occlusion.window: -inf is no finite",
        ),
        (f"seed: {'9' * 5000}", "is no YAML"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \x00", "is no YAML"),
        ("cnn: {learning_rate: '1e-3'}", "cnn.learning_rate: Input should be a valid number"),
        ("cnn: {epochs: 1e1}", "cnn.epochs: Input should be a valid integer"),
        ("machine: {reproducible: 'yes'}", "machine.reproducible"),
        (b"data: {name: caf\xe9}", "no UTF-8 text"),
        (b"\xff\xfes\x00", "no UTF-8 text"),
    ],
    ids=lambda own: repr(own)[:40],
)
def test_a_file_that_is_no_profile(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProfileError, match=message) as raised:
        Profile.load("bad", tmp_path)
    assert "bad" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "\ufeff", "null"])
def test_an_empty_profile_is_the_defaults(tmp_path, text):
    (tmp_path / "empty.yaml").write_text(text, encoding="utf-8")
    assert Profile.load("empty", tmp_path).recipe == Recipe()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("+2e3", 2e3),
        (".5e+1", 5.0),
        ("1.e2", 100.0),
        ("1.5e-3", 1.5e-3),
        ("1", 1),
    ],
)
def test_numbers_with_an_exponent(tmp_path, text, value):
    (tmp_path / "own.yaml").write_text(f"cnn: {{learning_rate: {text}}}")
    assert Profile.load("own", tmp_path).recipe.cnn.learning_rate == value
    assert parsed_change(f"cnn.learning_rate={text}") == ("cnn.learning_rate", value)


@pytest.mark.parametrize("text", ["1e", "e3", "1e-3x", "0e", "'1e-3'", "v1e3", "1-e3"])
def test_text_that_is_no_number(text):
    assert isinstance(parsed_change(f"a={text}")[1], str)


def test_anchors_and_merges_are_plain_yaml(tmp_path):
    text = "critic: &own {width: 4}\ndiscriminator: {<<: *own, stem_stride: 4}\n"
    (tmp_path / "own.yaml").write_text(text)
    recipe = Profile.load("own", tmp_path).recipe
    assert (recipe.critic.width, recipe.discriminator.width, recipe.discriminator.stem_stride) == (4, 4, 4)


NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("profiles/*.yaml")), ids=lambda path: path.stem)
def test_profiles_of_the_project_fit(path):
    recipe = Profile.load(path.stem, path.parent).recipe
    assert TypeAdapter(Recipe).validate_python(recipe) == recipe


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("sweeps/*.yaml")), ids=lambda path: path.stem)
def test_sweeps_of_the_project_fit(path):
    sweep = Sweep.load(path)
    assert Profile.load(sweep.profile, NOTEBOOKS / "profiles", sweep.changes).recipe


def test_a_sweep_holds_plain_values_as_well(tmp_path):
    (tmp_path / "own.yaml").write_text("title: x\nsettings: [{method: !!set {a}}]")
    with pytest.raises(ProfileError, match="the tag 'set' is refused"):
        Sweep.load(tmp_path / "own.yaml")


def test_changes_as_text():
    assert parsed_change("seeds=[0, 1]") == ("seeds", [0, 1])
    assert parsed_change("data.name=a=b") == ("data.name", "a=b")
    for text in ("seeds", "=3", "a=[1", "a=!!set {x}", "a=2026-01-01", "a={b: 1, b: 2}", "a=.inf"):
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
