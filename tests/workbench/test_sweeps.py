"""Sweeps: what a file says, what is run, and what the table holds."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from gan_lib.classifiers import make_classifier
from gan_lib.cli import app
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import read_json
from gan_lib.data import ImageSplit
from gan_lib.explainers import GeneratorExplainer
from gan_lib.figures import check_manifest
from gan_lib.workbench import (
    Places,
    ProfileError,
    Recipe,
    Sample,
    Sweep,
    Workbench,
    run_sweep,
    sweep_table,
    universal,
)
from gan_lib.workbench.jobs import UniversalJob
from gan_lib.workbench.places import SWEPT
from gan_lib.workbench.pools import Pool, PoolOptions, cells, order
from gan_lib.workbench.reproduction import centres
from gan_lib.workbench.ship import ship_universal
from gan_lib.workbench.sweeps import settings_of
from gan_lib.workbench.unseen import (
    UnseenOptions,
    _cells,
    _with_targets,
    beside_published,
    beyond_copying,
    cell_scores,
    seen_before,
    share,
)

FILE = """
title: A test
profile: tiny
timed: true
settings:
  - {group: control, method: Grad-CAM, experiment: grad_cam}
  - {method: LSFT}
  - {method: one condition, generator.conditions: 1}
  - {method: by contrast, experiment: contrastive}
"""


def write(tmp_path, text, name="mine"):
    (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / f"{name}.yaml"


def test_changes_are_added_and_seeds_given_with_them_count(tmp_path):
    path = write(tmp_path, "title: t\nseeds: [0, 1, 2]\nchanges: {gan.images: 8}\n")
    assert Sweep.load(path).seeds == (0, 1, 2)
    given = Sweep.load(path, {"seeds": [4], "gan.test_images": 6})
    assert given.seeds == (4,)
    assert given.changes == {"gan.images": 8, "gan.test_images": 6, "seeds": [4]}


def test_every_setting_in_every_cell_of_the_grid(tmp_path):
    text = (
        FILE.replace("timed: true", "")
        + "grid: {data.name: [digits_in_scenes, plain_digits], data.image_size: [32, 64]}\n"
    )
    settings = settings_of(Sweep.load(write(tmp_path, text)), Recipe())
    assert len(settings) == 4 * 2 * 2
    assert settings[6].method == "one condition"
    assert settings[6].changes == {
        "data.name": "digits_in_scenes",
        "data.image_size": 64,
        "generator.conditions": 1,
    }
    assert settings[6].labels["data.image_size"] == 64
    assert settings[0].experiment == "grad_cam"
    assert settings[1].experiment == "supervised"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: [{method: a, generator.condition: 1}]", "did you mean generator.conditions"),
        ("settings: [{method: a, experiment: magic}]", "unknown experiment 'magic'"),
        ("settings: [{method: a}, {method: a}]", "two settings are called"),
        (
            "timed: true\ngrid: {data.image_size: [32, 64]}\nsettings: [{method: a}]",
            "a method.s name of its own",
        ),
        ("sitting: []", "is no sweep"),
        ("runner: none", "unknown runner 'none'"),
        ("changes: {data.nam: x}", "did you mean data.name"),
    ],
)
def test_what_does_not_fit_fails_before_anything_runs(tmp_path, places, text, message):
    with pytest.raises(ProfileError, match=message):
        run_sweep(Sweep.load(write(tmp_path, f"title: t\nprofile: tiny\n{text}\n")), places)


def test_one_table_of_all_settings_and_seeds(tmp_path, places):
    sweep = Sweep.load(write(tmp_path, FILE), {"seeds": [0, 3]})  # the tiny CNN of seed 1 has no targets
    paths = run_sweep(sweep, places)
    assert [path.relative_to(places.figures).as_posix() for path in paths] == [
        "mine/results.csv",
        "mine/cells.csv",
        "mine/cost.csv",
    ]
    results = pd.read_csv(paths[0], keep_default_na=False)
    assert list(dict.fromkeys(results["method"])) == ["Grad-CAM", "LSFT", "one condition", "by contrast"]
    dice = results[results["measure"] == "dice"].set_index("method")
    assert dice.loc["Grad-CAM", "mean"] == pytest.approx(1.0), "its overlap with itself"
    assert dice.loc["LSFT", "n"] == dice.loc["Grad-CAM", "n"] == 8, "images, dealt out over the seeds"
    assert (results["low"] <= results["mean"]).all()
    assert (results["mean"] <= results["high"]).all()
    same = pd.read_parquet(paths[0].with_suffix(".parquet"))
    assert same["mean"].to_numpy() == pytest.approx(results["mean"], rel=1e-5)
    own = pd.read_csv(paths[1])
    assert own.loc[own["method"] == "one condition", "generator.conditions"].tolist() == [1, 1]
    assert own["generator.conditions"].isna().sum() == 6, "not changed in the other three settings"
    assert own["images"].tolist() == [4] * 8, "8 images dealt out over 2 seeds"
    of_lsft = own.loc[own["method"] == "LSFT", "dice"]
    assert of_lsft.mean() == pytest.approx(dice.loc["LSFT", "mean"], rel=1e-4)
    cost = pd.read_csv(paths[2]).set_index("method")
    assert cost.loc["Grad-CAM", "parameters"] == 0
    assert (cost["ms per image"] > 0).all()
    assert not check_manifest(places.figures)
    again = run_sweep(sweep, places)  # from the store
    assert pd.read_csv(again[0], keep_default_na=False).equals(results)


SOME_FAIL = """
title: t
profile: tiny
seeds: [0, 3]
settings: [{method: Grad-CAM, experiment: grad_cam}, {method: missing, data.name: nowhere}]
"""


def test_cells_that_fail_are_told_and_stop_no_other(tmp_path, places):
    path, root = write(tmp_path, SOME_FAIL, "some"), ["--root", str(places.notebooks.parent)]
    done = CliRunner().invoke(app, ["sweep", str(path), *root])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == ["some/results.csv", "some/cells.csv", "some/failed.csv"]
    first, second = done.stderr.splitlines()
    assert first.startswith(
        "failed: method missing, seed 0: FileNotFoundError: data.name: 'nowhere' is neither"
    )
    assert second.startswith("failed: method missing, seed 3: ")
    failed = pd.read_csv(places.figures / "some/failed.csv")
    assert failed[["method", "seed"]].to_numpy().tolist() == [["missing", 0], ["missing", 3]]
    path.write_text(SOME_FAIL.replace("nowhere", "digits_in_scenes, experiment: grad_cam"))
    run_sweep(Sweep.load(path), places)
    assert not list((places.figures / "some").glob("failed*")), "the table of an earlier run is gone"
    assert not check_manifest(places.figures)
    path.write_text(SOME_FAIL.replace("experiment: grad_cam", "data.name: nowhere"))
    with pytest.raises(FileNotFoundError, match="'nowhere' is neither"):
        run_sweep(Sweep.load(path), places)


def test_command_line(tmp_path, places):
    root = ["--root", str(places.notebooks.parent)]
    path = write(tmp_path, "title: t\nprofile: tiny\nsettings: [{method: a, experiment: grad_cam}]", "small")
    done = CliRunner().invoke(app, ["sweep", str(path), *root])
    assert done.exit_code == 0, done.output
    assert "small/results.csv" in done.output
    missing = CliRunner().invoke(app, ["sweep", "nothing", *root])
    assert missing.exit_code == 2
    assert "there is no" in missing.output


UNSEEN = """
title: Unseen
profile: tiny
runner: unseen
options:
  seen_architectures: [slim_vgg]
  unseen_architectures: [slim_resnet]
  seen_data_sets: [digits_in_scenes]
  unseen_data_sets: [plain_digits, not_at_hand]
  images: 6
  test_images: 4
  adapter_steps: [1]
  adapted_data_sets: [plain_digits]
  published: {dice: 0.6588}
  recipes:
    slim_resnet: {cnn.epochs: 1, cnn.batch_size: 8}
    slim_resnet x plain_digits: {cnn.batch_size: 4}
"""


def test_generators_are_tested_on_cells_that_they_have_not_seen(tmp_path, places):
    changes = {"data.image_size": 64, "contrastive.held_out": 4, "supervised.saturation_weight": 1.0}
    paths = run_sweep(Sweep.load(write(tmp_path, UNSEEN, "unseen"), changes), places)
    tables = {path.stem: pd.read_csv(path) for path in paths}
    assert dict(zip(tables["cells"]["cell"], tables["cells"]["generator"], strict=True)) == {
        "slim_vgg x digits_in_scenes": "seen",
        "slim_resnet x digits_in_scenes": "unseen CNN",
        "slim_vgg x plain_digits": "unseen data",
        "slim_resnet x plain_digits": "unseen CNN and data",
    }
    assert tables["missing_data"]["cell"].tolist() == [
        "slim_vgg x not_at_hand",
        "slim_resnet x not_at_hand",
    ]
    dice = tables["unseen"].query("measure == 'dice'")
    assert set(dice["known"]) == {"seen", "unseen CNN", "unseen data", "unseen CNN and data"}
    assert {"LSFT (leak-free)", "GSFT (published)", "linear readout (published)"} <= set(dice["method"])
    assert set(tables["learned"]["known"]) == set(dice["known"])
    half = tables["results"].query("method == 'everything at half strength'").set_index("measure")["mean"]
    assert (half["area"] == 0.5).all()
    assert half["drop_black@10"].isna().all()
    assert (dice["low"] <= dice["mean"]).all()
    assert (dice["mean"] <= dice["high"]).all()
    assert tables["published"].query("method == 'published'")["mean"].tolist() == [0.6588]
    by_cell = tables["results"].query("method == 'Grad-CAM' and measure == 'dice'").set_index("cell")
    assert by_cell["known"].to_dict() == tables["cells"].set_index("cell")["generator"].to_dict()
    assert sweep_table(places, "unseen", "adapters").equals(tables["adapters"])
    methods = list(dict.fromkeys(tables["adapters"]["method"]))
    assert methods == ["Grad-CAM", "adapters, 1 step", "trained for this CNN"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("  imgaes: 6", "imgaes"), ("  images: many", "images"), ("  seen_data_sets: 3", "seen_data_sets")],
)
def test_options_that_do_not_fit(tmp_path, places, line, message):
    name = line.split(":")[0]
    kept = [own for own in UNSEEN.splitlines() if not own.startswith(f"{name}:")]
    with pytest.raises(ProfileError, match=message):
        run_sweep(Sweep.load(write(tmp_path, "\n".join([*kept, line, ""]))), places)


def test_a_table_of_a_sweep_is_found_where_it_was_written(tmp_path, monkeypatch):
    monkeypatch.delenv(SWEPT, raising=False)
    places = Places.of(tmp_path, figures=tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="make it with `gan-lib sweep mine`"):
        sweep_table(places, "mine")
    for number, folder in enumerate((tmp_path / "figures", places.figures, tmp_path / "run")):
        (folder / "mine").mkdir(parents=True)
        pd.DataFrame({"group": [""], "mean": [number]}).to_csv(folder / "mine/results.csv", index=False)
        monkeypatch.setenv(SWEPT, str(folder)) if number == 2 else None
        assert sweep_table(places, "mine")["mean"].tolist() == [number]


def test_what_a_generator_knows_of_a_cell():
    asked = UnseenOptions(["a", "b"], ["c"], ["x", "y"], ["z"])
    known = {own: seen_before(own, asked) for own in ("a x x", "b x y", "c x y", "a x z", "c x z")}
    assert list(known.values()) == ["seen", "seen", "unseen CNN", "unseen data", "unseen CNN and data"]


def test_recipes_of_a_cnn_of_a_data_set_and_of_a_cell_count_in_this_order(tmp_path):
    recipes = {
        "b x y": {"cnn.epochs": 4},
        "y": {"cnn.epochs": 3, "data.train_images": 30},
        "b": {"cnn.epochs": 2, "cnn.input_size": 32},
    }
    asked, made = UnseenOptions(["a"], ["b"], ["x"], ["y", "z"], recipes=recipes), []

    def subject(changes):
        if changes["data.name"] == "z":
            raise FileNotFoundError(f"z is not in {tmp_path}: download it\nand unpack it")
        made.append({name: value for name, value in changes.items() if name != "cnn.seed"})
        return changes

    bench = SimpleNamespace(subject=subject, recipe=Recipe(), places=Places.of(tmp_path, data=tmp_path))
    cells, missing = _cells(asked, bench, 5)
    assert [own["cnn.seed"] for own in cells] == [5] * 4
    plain = {"data.name": "x", "cnn.architecture": "a"}
    of_b = {"cnn.architecture": "b", "cnn.input_size": 32}
    assert made == [
        plain,
        {**plain, **of_b, "cnn.epochs": 2},
        {**plain, "data.name": "y", "cnn.epochs": 3, "data.train_images": 30},
        {"data.name": "y", **of_b, "cnn.epochs": 4, "data.train_images": 30},
    ]
    told = f"z is not in {tmp_path.name}: download it"
    assert missing == {"a x z": told, "b x z": told}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipes": {"c": {}}}, "'c' is no CNN, data set or cell"),
        ({"recipes": {"a": {"data.name": "y"}}}, "data.name is what the cells differ in"),
        ({"published": {"dise": 1.0}}, "'dise' is none of dice"),
    ],
)
def test_recipes_and_published_figures_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        UnseenOptions(["a"], ["b"], ["x"], ["y"], **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cnn.batch_size: 4", "cnn.batch_sise: 4"), "slim_resnet x plain_digits.*batch_sise"),
        (("seen_data_sets: [digits_in_scenes]", "seen_data_sets: [nowhere]"), "no seen cell.*nowhere"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_trained(tmp_path, places, change, message):
    text = UNSEEN.replace(*change)
    assert text != UNSEEN
    with pytest.raises(ProfileError, match=message):
        run_sweep(Sweep.load(write(tmp_path, text)), places)


def test_what_generators_add_to_the_linear_readout_of_their_conditions():
    dice = {"LSFT (leak-free)": [0.5, 0.7], "linear readout (leak-free)": [0.4, 0.5]}
    dice |= {"GSFT (leak-free)": [0.4, 0.5], "linear readout (published)": [1.0, 1.0]}
    dice |= {"LSFT (published)": [0.9, 0.9], "GSFT (published)": [0.8, 0.8]}
    rows = [
        {"method": method, "seed": 0, "cnn": "a", "image": image, "dice": value, "known": "seen"}
        for method, values in dice.items()
        for image, value in enumerate(values)
    ]
    made = beyond_copying(pd.DataFrame(rows)).set_index("method")["mean"]
    expected = {"LSFT (leak-free)": 0.15, "GSFT (leak-free)": 0.0}
    expected |= {"LSFT (published)": -0.1, "GSFT (published)": -0.2}
    assert made.to_dict() == pytest.approx(expected)


def test_what_the_authors_report_stands_first_without_an_interval():
    rows = [
        (method, known, measure, mean, mean - 1, mean + 1)
        for method in ("LSFT (published)", "GSFT (published)")
        for known in ("seen", "unseen CNN and data")
        for measure, mean in (("dice", 0.5), ("won", 40.0), ("area", 0.1))
    ]
    table = pd.DataFrame(rows, columns=["method", "known", "measure", "mean", "low", "high"])
    asked = UnseenOptions([], [], [], [], published={"won": 53.9, "dice": 0.6588}, published_as="theirs")
    made = beside_published(table, asked)
    assert made[["method", "measure", "mean"]].values.tolist() == [
        ["theirs", "won", 53.9],
        ["theirs", "dice", 0.6588],
        ["LSFT (published), seen", "dice", 0.5],
        ["LSFT (published), seen", "won", 40.0],
        ["LSFT (published), unseen CNN and data", "dice", 0.5],
        ["LSFT (published), unseen CNN and data", "won", 40.0],
    ]
    assert made["low"].isna().tolist() == [True] * 2 + [False] * 4
    assert centres(made) == [("mean", "low", "high")]


class Dark(torch.nn.Module):
    """Grad-CAM is empty for every image: all are predicted by the bias."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Linear(2, 3)
        torch.nn.init.zeros_(self.head.weight)

    def forward(self, images):
        return self.head(self.relu(self.conv(images)).mean((2, 3)))


def test_a_cell_without_targets_is_reported_and_left_out(tiny_net, scenes):
    def subject(name, cnn):
        batch = scenes.test.batch(range(6))

        def draw(count, skip):
            rows = torch.arange(skip, skip + count)
            explained = cnn(batch.images[rows]).argmax(1)
            split = scenes.test.subset(rows)
            return Sample(split, rows, explained, scenes.class_names, torch.device("cpu"))

        return SimpleNamespace(name=name, cnn=cnn, target_layer="", accuracy=0.5, draw=draw)

    empty, full = subject("dark x scenes", Dark().eval()), subject("tiny x scenes", tiny_net)
    empty.target_layer, full.target_layer = "conv", "features.5"
    cells, report = _with_targets([empty, full], 7, (4, 2))
    assert [own.name for own in cells.subjects] == ["tiny x scenes"]
    assert report["used"].tolist() == [False, True]
    assert report["targets"].tolist()[0] == 0
    assert report["seed"].tolist() == [7, 7]
    (sample,) = cells.samples
    assert set(sample.rows.tolist()) <= {2, 3, 4, 5}, "the seed's share of the images"
    assert len(sample) == round(4 * report["targets"][1])


@pytest.mark.parametrize(("count", "parts"), [(200, 3), (7, 3), (2, 3)])
def test_shares_are_disjoint_and_complete(count, parts):
    shares = [share(count, parts, place) for place in range(parts)]
    assert sum(size for size, _ in shares) == count
    assert [skip for _, skip in shares] == [sum(size for size, _ in shares[:place]) for place in range(parts)]


def test_cell_scores(tiny_net, scenes):
    """One side shows everything and never loses; the other shows nothing."""
    batch = scenes.test.batch(range(6))
    own = SimpleNamespace(cnn=tiny_net, device=torch.device("cpu"), name="tiny x scenes")
    sample = SimpleNamespace(
        images=batch.images, masks=batch.masks, explained=tiny_net(batch.images).argmax(1)
    )

    def showing(value):
        shown = SimpleNamespace(attribute=lambda images, **_: torch.full_like(images[:, :1], value))
        shown.to = lambda _: shown
        return shown

    table = cell_scores(own, {("Grad-CAM", 0): showing(0.0), ("all", 0): showing(1.0)}, sample)
    assert set(table["cell"]) == {"tiny x scenes"}
    assert table["image"].iloc[0] == "tiny x scenes/0"
    means = table.groupby("method")[["drop_black", "won", "lost", "won@10", "lost@10"]].mean()
    assert means.loc["all", "drop_black"] == pytest.approx(0, abs=1e-4)
    hurt = (table["drop_black"].iloc[:6] > 0).mean()  # by showing nothing
    assert hurt > 0
    assert means.loc["all", "won"] == pytest.approx(100 * hurt)
    assert means.loc["Grad-CAM", ["won", "lost"]].tolist() == [0, 0]
    assert means.loc["all", ["won@10", "lost@10"]].tolist() == [0, 0], "both are flat: the same pixels"


POOLS = """
title: Universal
profile: tiny
runner: universal
seeds: [0, 3]
options:
  pool:
    - {cnn.architecture: [slim_vgg, slim_resnet], cnn.seed: [0, 3]}
    - {cnn.architecture: slim_resnet, data.name: confounded_digits}
    - {cnn.architecture: varied_7}
  left_out: {slim_vgg: [], slim_resnet: [varied_7]}
  judged: [{data.name: [digits_in_scenes, plain_digits, not_at_hand]}]
  cheating: [{data.name: confounded_digits}]
  images: 12
  test_images: 8
  sanity_images: 2
  wrong_images: 4
  marked_images: 3
  steps: 2
  numbers: [1, 2, 64]
  variants: [lsft]
  least_accuracy: 0
"""


def test_universal_explainers_of_cnns_that_they_have_not_met(tmp_path, places, monkeypatch):
    """A second run finds again what was judged."""
    changes = {"universal.held_out": 4, "universal.max_steps": 2, "universal.batch_size": 4}
    changes |= {"evidence.emphasis": 4.0}
    paths = run_sweep(Sweep.load(write(tmp_path, POOLS, "pools"), changes), places)
    tables = {path.stem: pd.read_csv(path) for path in paths}
    assert set(tables["missing_data"]["data.name"]) == {"not_at_hand"}
    assert set(tables) == {
        "overall",
        "missing_data",
        "pool",
        "results",
        "unseen",
        "tests",
        "sanity",
        "marks",
        "wrong_cnn",
        "numbers",
    }
    assert tables["pool"]["cnn"].tolist() == [*["slim_vgg"] * 2, *["slim_resnet"] * 3, "varied_7"]
    methods = {
        *("Grad-CAM", "evidence_projection", "evidence_projection, emphasised"),
        "universal_lsft",
    }
    for name in ("results", "unseen", "sanity", "marks", "numbers"):
        assert set(tables[name]["method"]) == methods, name
        known = tables[name].dropna(subset=["low", "high"])
        assert (known["low"] <= known["high"]).all(), name
    results = tables["results"].query("measure == 'drop_black' and method == 'Grad-CAM'")
    assert results[["unseen", "data set", "n"]].values.tolist() == [
        *(["slim_vgg", name, 8] for name in ("digits_in_scenes", "plain_digits")),
        *(["slim_resnet", name, 8] for name in ("digits_in_scenes", "plain_digits")),
    ]
    assert tables["unseen"].query("measure == 'won' and method == 'Grad-CAM'")["mean"].tolist() == [0, 0]
    assert tables["numbers"]["CNNs"].unique().tolist() == [1, 2]
    tests = tables["tests"]
    assert tests[["unseen", "measure", "method", "against"]].values.tolist() == [
        [name, measure, "universal_lsft", rival]
        for name in ("slim_vgg", "slim_resnet")
        for measure in ("insertion - deletion", "drop_black@10")
        for rival in ("Grad-CAM", "evidence_projection", "evidence_projection, emphasised")
    ]
    mine = tables["unseen"].query("measure == 'insertion - deletion' and unseen == 'slim_vgg'")
    mean = mine.set_index("method")["mean"]
    assert tests["mean"][0] == pytest.approx(mean["universal_lsft"] - mean["Grad-CAM"], abs=1e-4)
    assert tables["wrong_cnn"]["pictures"].unique().tolist() == ["alone"]
    assert set(tables["sanity"]["n"]) == {4}, "two images of each of two CNNs, not the same two"
    assert tables["wrong_cnn"]["n"].max() == 4, "the marked images are the same for both"
    for name in ("cell_scores", "_redrawn", "_of_another"):
        monkeypatch.setattr(universal, name, not_again)
    for path in run_sweep(Sweep.load(write(tmp_path, POOLS, "pools"), changes), places):
        pd.testing.assert_frame_equal(pd.read_csv(path), tables[path.stem])


def not_again(*given, **settings):
    raise AssertionError("it is in the store")


def coloured(count=25):
    """Two classes of so many images, dark and bright."""
    labels = torch.arange(2).repeat_interleave(count)
    noise = torch.randint(0, 60, (2 * count, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return ImageSplit((noise + 150 * labels[:, None, None, None]).byte(), labels)


def test_a_cnn_cut_short_is_one_more_of_the_pool(tmp_path):
    """The pool's order: a CNN, then what is cut from it. Cuts belong to the address, and none do not."""
    trained = SimpleNamespace(
        cnn=make_classifier("slim_resnet", ["a", "b"]).requires_grad_(False).eval(), key="k"
    )
    recipe, images = Recipe(), coloured()
    pool = [(trained, images), (trained, images)]
    options = replace(recipe.universal, max_steps=3, held_out=4, batch_size=4, likeness_weight=0.0)
    given = ("lsft", {**asdict(recipe.evidence), "layers": 3}, 3, recipe.critic, pool, options)
    given[1].pop("layers")
    jobs = [UniversalJob(*given, *cuts) for cuts in ((), ([(), ()],), ([("backbone.stem",), ()],))]
    plain, empty, cut = (own.made_from() for own in jobs)
    assert plain == empty != cut
    assert cut["cuts"] == [["backbone.stem"], []]
    folder = tmp_path / "run"
    folder.mkdir()
    jobs[2].train(folder, make_fabric())
    assert sorted(pd.read_csv(folder / "log.csv")["member"]) == [0, 1, 2]


def test_a_cut_behind_a_layer_that_is_not_there():
    subject = SimpleNamespace(
        recipe=Recipe().changed({"cnn.architecture": "slim_vgg"}), cnn=make_classifier("slim_vgg", ["a", "b"])
    )
    asked = PoolOptions(pool=(), left_out={}, cuts={"slim_vgg": ("backbone.tail",)})
    pool = Pool(asked, None, [0], [subject], pd.DataFrame({"cnn": ["slim_vgg"]}))
    with pytest.raises(ProfileError, match=r"sweep: slim_vgg cannot be cut short: no layer .backbone\.tail"):
        pool.check("sweep")


def test_what_is_like_a_left_out_cnn_leaves_the_pool_with_it():
    names = ["slim_vgg", "slim_resnet", "varied_7", "varied_8"]
    subjects = [SimpleNamespace(recipe=Recipe().changed({"cnn.architecture": name})) for name in names]
    asked = PoolOptions(pool=(), left_out={"slim_resnet": ("varied_7",), "slim_vgg": ()})
    pool = Pool(asked, None, [0], subjects, None)
    assert [own.recipe.cnn.architecture for own in pool.without("slim_resnet")] == ["slim_vgg", "varied_8"]
    assert [own.recipe.cnn.architecture for own in pool.without("slim_vgg")] == names[1:]


def test_a_left_out_cnn_is_as_the_pool_has_it():
    grids = (
        {"cnn.architecture": ["slim_vgg", "slim_resnet"], "cnn.seed": [0, 1], "cnn.epochs": 3},
        {"cnn.architecture": "mobilenet_v2", "cnn.weights": "a.safetensors", "data.name": "photographs"},
    )
    pool = Pool(PoolOptions(pool=grids, left_out={}), None, [0], [], None)
    assert len(list(cells(grids))) == 5
    assert pool.changes("slim_resnet", 5, {"data.name": "mnist"}) == {
        "cnn.architecture": "slim_resnet",
        "cnn.epochs": 3,
        "data.name": "mnist",
        "cnn.seed": 5,
    }
    given = {"cnn.architecture": "mobilenet_v2", "cnn.weights": "a.safetensors"}
    assert pool.changes("mobilenet_v2", 5) == given, "its weights are given: no seed"
    assert pool.changes("vgg16", 2) == {"cnn.architecture": "vgg16", "cnn.seed": 2}


def test_smaller_pools_are_parts_of_larger_ones():
    assert sorted(order(5, 3)) == [0, 1, 2, 3, 4]
    assert order(5, 3) == order(5, 3) != order(5, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  images: 12", "  imags: 6", "imags"),
        ("  variants: [lsft]", "  variants: 3", "variants"),
        ("  variants: [lsft]", "  cuts: {vgg11: [a]}", "cut short are vgg11, which the pool does not have"),
        ("slim_resnet: [varied_7]}", "slim_resnet: [varied_9]}", "left out are varied_9, which the pool"),
        ("slim_vgg: [], ", "slim_vgg: [slim_resnet, varied_7], ", "without slim_vgg .* no CNN is left"),
        ("  least_accuracy: 0", "  least_accuracy: 1.1", "no CNN is left to train on"),
        ("name: confounded_digits}\n    - {cnn.architecture: varied_7}", "name: nowhere}", "cannot be had"),
    ],
)
def test_pools_that_do_not_fit(tmp_path, places, old, new, message):
    assert old in POOLS
    with pytest.raises(ProfileError, match=message):
        run_sweep(Sweep.load(write(tmp_path, POOLS.replace(old, new), "odd")), places)


def test_explainers_for_any_cnn_are_shipped(tmp_path, places):
    """Of all CNNs of the pool, in a project of its own: what ``explain`` then takes by default."""
    own = Places.of(places.root, places.figures, tmp_path / "data")
    text = POOLS.replace("variants: [lsft]", "shipped: [lsft, gsft]").replace(
        "slim_vgg, slim_resnet", "slim_vgg"
    )
    path = write(tmp_path, text.replace("seeds: [0, 3]", "seeds: [0]"), "pools")
    sweep = Sweep.load(path, {"universal.held_out": 4, "universal.max_steps": 1, "universal.batch_size": 4})
    bench = Workbench("ship", sweep.profile, sweep.changes, own)
    folder, names = ship_universal(sweep, bench)
    assert (folder, names) == (
        tmp_path / "data/pretrained/universal/small",
        ["universal-lsft", "universal-gsft"],
    )
    about = read_json(folder / "universal-lsft" / "explainer.json")
    assert [row["cnn"] for row in about["trained_on"]["pool"]] == [
        "slim_vgg",
        "slim_vgg",
        "slim_resnet",
        "varied_7",
    ]
    cnn = make_classifier("varied_3", ["one", "two"]).eval()
    explainer = GeneratorExplainer.from_pretrained(folder / "universal-gsft", cnn)
    assert explainer.makers.count == bench.recipe.evidence.layers
    assert explainer.attribute(torch.rand(2, 3, 48, 64)).shape == (2, 1, 48, 64)
