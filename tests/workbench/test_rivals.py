"""Sweeps that set one CNN's contrastive explainers beside every other method."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from gan_lib.classifiers import load_classifier
from gan_lib.core.artifacts import digest
from gan_lib.core.storage import read_json, save_tensors
from gan_lib.explainers import ContrastiveExplainer
from gan_lib.gan.conditions import EvidenceMaker
from gan_lib.workbench import ProfileError, Sweep, Workbench, rivals, run_sweep
from gan_lib.workbench.ship import ship_swept

FILE = """
title: Beside
profile: tiny
runner: rivals
seeds: [0, 3]
changes:
  gan: {reads: evidence, variants: [lsft]}
  evidence: {layers: 2, width: 8, stem_stride: 8, detail: 4}
  judge:
    methods: [grad_cam, evidence_projection, edges]
    settings: {rise: {masks: 8}, evidence_projection: {layers: 2}}
    images: 14
    curve_steps: 4
    areas: [0.2]
    sanity_images: 3
    sanity_stages: 2
    timing_rounds: 1
options:
  few: [rise]
  few_images: 5
  batches: [1, 2]
"""


def sweep_of(tmp_path, text=FILE):
    path = tmp_path / "beside.yaml"
    path.write_text(text)
    return Sweep.load(path)


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(rivals, "AT_ONCE", 4)


def test_all_seeds_explain_all_images_beside_every_other_method(tmp_path, places, few_at_once):
    """Fourteen images in parts of four: of the costly method's five, one is in the second part."""
    sweep = sweep_of(tmp_path)
    tables = {path.stem: pd.read_csv(path) for path in run_sweep(sweep, places)}
    assert set(tables) == {"results", "tests", "sanity", "cost"}
    results = tables["results"].query("measure == 'insertion - deletion'").set_index("method")
    assert results["n"].to_dict() == {
        **dict.fromkeys(("grad_cam", "evidence_projection", "edges", "contrastive_lsft"), 14),
        "rise": 5,
    }
    assert results["seeds"].to_dict() == {**dict.fromkeys(results.index, 1), "contrastive_lsft": 2}
    tests = tables["tests"]
    assert tests[["measure", "method", "against", "n"]].values.tolist() == [
        [measure, "contrastive_lsft", name, 5 if name == "rise" else 14]
        for measure in ("insertion - deletion", "drop_black@20")
        for name in ("grad_cam", "evidence_projection", "edges", "rise")
    ]
    mean = results["mean"]
    assert tests["mean"][0] == pytest.approx(mean["contrastive_lsft"] - mean["grad_cam"], abs=1e-4)
    assert (tests["p_holm"] >= tests["p"]).all()
    sanity = tables["sanity"]
    assert set(sanity["method"]) == {"grad_cam", "evidence_projection", "contrastive_lsft"}
    assert set(sanity["n"]) == {3}
    assert sanity.query("method == 'contrastive_lsft'")["seeds"].tolist() == [2, 2]
    assert sanity["share"].nunique() == 2
    assert sanity["share"].max() == 100
    cost = tables["cost"].set_index(["images", "method"])["forward passes"]
    assert cost[1, "forward pass"] == 1
    assert "rise" in cost[1]
    assert "rise" not in cost[2], "it is timed once"


def test_scores_are_those_of_the_whole_images(tmp_path, places, few_at_once, monkeypatch):
    """However they are cut into parts."""
    sweep = sweep_of(tmp_path)
    bench = Workbench("sweep", "tiny", sweep.changes, places)
    parts = rivals.run_rivals(sweep, bench)["results"][0]
    monkeypatch.setattr(rivals, "AT_ONCE", 32)
    pd.testing.assert_frame_equal(parts, rivals.run_rivals(sweep, bench)["results"][0], atol=1e-5)


@pytest.fixture
def given_weights(places):
    """A sweep whose CNN has given weights, and so is the same for images of any size."""
    cnn = Workbench("weights", "tiny", {}, places).subject().cnn
    save_tensors(places.data / "given.safetensors", cnn.backbone.state_dict())
    changes = "\n  cnn: {weights: given.safetensors, epochs: 0}\n  gan: {reads"
    text = FILE.replace("\n  gan: {reads", changes)
    return text.replace("few: [rise]", "trained: {data.image_size: 48}").replace("[0, 3]", "[3, 0]")


def test_explainers_may_be_trained_on_other_images(tmp_path, places, given_weights, monkeypatch):
    """On larger images than those that are judged."""
    sweep = sweep_of(tmp_path, given_weights)
    bench = Workbench("sweep", "tiny", sweep.changes, places)
    asked, subject = rivals.options_of(sweep, bench.recipe), bench.subject()
    trained = rivals.trained_on(sweep, asked, subject, bench)
    assert (trained.image_size, subject.image_size) == ((48, 48), (32, 32))
    assert rivals.trained_on(sweep, rivals.RivalOptions(), subject, bench) is subject
    generator = trained.contrastive(["lsft"], [3])["lsft", 3].generator
    timed, cost = [], rivals._cost
    monkeypatch.setattr(rivals, "_cost", lambda *given: timed.append(given[1:3]) or cost(*given))
    rivals.run_rivals(sweep, bench)
    [(judged, generators)] = timed
    assert bench.provenance["data"] == {subject.recipe.data.name: subject.data.fingerprint}
    assert judged.image_size == (32, 32)
    assert weights_of(generators["contrastive_lsft", 3].generator) == weights_of(generator)


def weights_of(generator):
    return {name: own.sum().item() for name, own in generator.state_dict().items()}


def test_contrastive_explainers_are_shipped_with_their_cnn(tmp_path, places, given_weights):
    """Those of the first seed, for images of the size that they were judged at."""
    sweep = sweep_of(tmp_path, given_weights)
    bench = Workbench("ship", "tiny", sweep.changes, places)
    subject = bench.subject()
    folder, names = ship_swept(sweep, bench)
    assert (folder, names) == (places.data / "pretrained" / "slim_vgg", ["contrastive-lsft"])
    cnn = load_classifier(folder)
    assert cnn.card.image_size == (32, 32)
    kept = ContrastiveExplainer.from_pretrained(folder / "contrastive-lsft", cnn)
    changed = bench.subject({"data.image_size": 48}).contrastive(["lsft"], [3])["lsft", 3]
    assert weights_of(kept.generator) == weights_of(changed.generator)
    assert kept.image_size == (32, 32)
    sample = subject.draw(2)
    assert kept.attribute(sample.images, sample.explained).shape == (2, 1, 32, 32)


def test_a_cnn_whose_weights_users_bring(tmp_path, places, given_weights):
    """Explainers and card are shipped; without a file of weights it is said what is missing."""
    sweep = sweep_of(tmp_path, given_weights)
    folder, names = ship_swept(sweep, Workbench("ship", "tiny", sweep.changes, places), "none")
    assert names == ["contrastive-lsft"]
    files = {own.name for own in folder.iterdir() if own.is_file()}
    assert files == {"classifier.json", "checksums.json"}
    assert set(read_json(folder / "checksums.json")) == {"classifier.json"}
    with pytest.raises(FileNotFoundError, match="slim_vgg comes without its weights: give a file of them"):
        load_classifier(folder)
    cnn = load_classifier(folder, places.data / "given.safetensors")
    kept = ContrastiveExplainer.from_pretrained(folder / names[0], cnn)
    assert kept.attribute(torch.rand(1, 3, 32, 32), 0).shape == (1, 1, 32, 32)


def test_other_sweeps_have_no_explainers_to_ship(tmp_path, places):
    for text, told in (
        (
            "title: Settings\nprofile: tiny\nsettings: [{method: CGMA}]",
            "settings trains nothing that is shipped",
        ),
        ("title: Pool\nprofile: tiny\nrunner: universal", "its explainers are of no CNN"),
    ):
        sweep = sweep_of(tmp_path, text)
        with pytest.raises(ProfileError, match=told):
            ship_swept(sweep, Workbench("ship", "tiny", {}, places), "IMAGENET1K_V1")


def address(monkeypatch, text, tmp_path, places, **given):
    """What decides the scores of a part, and the ranks after redrawing, as a sweep's text has it."""
    found = []

    def collected(subject, module, made_from, make):
        found.append(made_from)
        return pd.DataFrame({"image": [0], "method": "m", "seed": 0, "share": 50.0, "rank": 0.0})

    monkeypatch.setattr(rivals, "kept_table", collected)
    monkeypatch.setattr(rivals, "explainers_of", lambda *given: {})
    sweep = sweep_of(tmp_path, text)
    subject = Workbench("sweep", "tiny", sweep.changes, places).subject()
    whole = {"generators": {}, "methods": ["grad_cam"], "seed": 0, "part": (14, 3, 2)} | given
    rivals._scores(subject, *whole.values())
    rivals._redrawn(subject, *[*whole.values()][:3])
    return [digest(own) for own in found]


@pytest.mark.parametrize(
    ("change", "scores", "ranks"),
    [
        ({"generators": {("contrastive_lsft", 0): SimpleNamespace(key="g")}}, True, True),
        ({"methods": ["grad_cam", "edges"]}, True, True),
        ({"seed": 1}, True, False),  # of random methods, none of which is checked
        ({"part": (14, 5, 2)}, True, False),
        ("areas: [0.2]", "areas: [0.1]", (True, False)),
        ("curve_steps: 4", "curve_steps: 5", (True, False)),
        ("images: 14", "images: 14\n    fills: [blur]", (True, False)),
        ("sanity_images: 3", "sanity_images: 4", (False, True)),
        ("sanity_stages: 2", "sanity_stages: 3", (False, True)),
        ("settings: {", "settings: {grad_cam: {layer: backbone.features.0}, ", (True, True)),
    ],
)
def test_what_decides_a_table_is_in_its_address(monkeypatch, tmp_path, places, change, scores, ranks):
    before = address(monkeypatch, FILE, tmp_path, places)
    if isinstance(change, dict):
        after = address(monkeypatch, FILE, tmp_path, places, **change)
    else:
        assert change in FILE
        after = address(monkeypatch, FILE.replace(change, scores, 1), tmp_path, places)
        scores, ranks = ranks
    assert [one != two for one, two in zip(before, after, strict=True)] == [scores, ranks]


def test_explainers_read_evidence(tmp_path, places):
    bench = Workbench("sweep", "tiny", sweep_of(tmp_path).changes, places)
    subject = bench.subject()
    made = subject.contrastive(["lsft"])["lsft", 0]
    assert isinstance(made.explainer, ContrastiveExplainer)
    assert isinstance(made.explainer.maker, EvidenceMaker)
    found = rivals.explainers_of(subject, {("contrastive_lsft", 0): made}, [])["contrastive_lsft", 0]
    sample = subject.draw(2)
    maps = made.explainer.attribute(sample.images, sample.explained)
    assert maps.equal(found.attribute(sample.images, sample.explained))
    made.explainer.save(tmp_path / "kept")
    again = ContrastiveExplainer.from_pretrained(tmp_path / "kept", subject.cnn)
    assert isinstance(again.maker, EvidenceMaker)
    assert maps.equal(again.attribute(sample.images, sample.explained))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("few: [rise]", "few: [universal_lsft]", "universal_lsft is no rival"),
        ("edges]", "lsft]", "lsft is no rival"),
        ("few: [rise]", "few: [sunrise]", "sunrise"),
        ("few_images: 5", "few_pictures: 5", "few_pictures"),
        ("few_images: 5", "few_images: 0", "greater than 0"),
        ("batches: [1, 2]", "tested: [charm]", "nothing measures charm; there are area, .*insertion"),
        ("batches: [1, 2]", "trained: {cnn.seed: 1}", "trained makes another CNN"),
        ("batches: [1, 2]", "trained: {cnn.mean: [0.4, 0.5, 0.6]}", "trained makes another CNN"),
        ("batches: [1, 2]", "trained: {cnn.input_size: 64}", "trained makes another CNN"),
        ("batches: [1, 2]", "trained: {gan.reads: activations}", "trained reads other conditions"),
        ("batches: [1, 2]", "trained: {evidence.layers: 3}", "trained reads other conditions"),
        ("batches: [1, 2]", "trained: {cnn.sead: 1}", "trained: .*sead"),
        ("batches: [1, 2]", "measures: [drop_black@30]", "nothing measures drop_black@30"),
    ],
)
def test_options_that_do_not_fit(tmp_path, places, old, new, told):
    sweep = sweep_of(tmp_path, FILE.replace(old, new))
    with pytest.raises(ProfileError, match=told):
        rivals.run_rivals(sweep, Workbench("sweep", "tiny", sweep.changes, places))


def test_methods_on_few_images_are_on_few_images_alone(tmp_path, places, few_at_once):
    sweep = sweep_of(tmp_path, FILE.replace("few: [rise]", "few: [edges]"))
    tables = rivals.run_rivals(sweep, Workbench("sweep", "tiny", sweep.changes, places))
    results = tables["results"][0].query("measure == 'area'").set_index("method")["n"]
    assert results.to_dict() == {
        "grad_cam": 14,
        "evidence_projection": 14,
        "edges": 5,
        "contrastive_lsft": 14,
    }


def test_cost_by_hand(tmp_path, places, monkeypatch):
    """Of 20 images asked 64: .2 s for a pass is 10 ms an image, .5 s are 2.5 passes."""
    sweep = sweep_of(tmp_path)
    subject = Workbench("sweep", "tiny", sweep.changes, places).subject()
    monkeypatch.setattr(
        rivals,
        "median_seconds",
        lambda runs, rounds: {name: 0.2 if name == rivals.FORWARD else 0.5 for name in runs},
    )
    asked = rivals.RivalOptions(batches=(64,))
    rows = rivals._cost(asked, subject, {}, ["edges"], 0).to_dict("records")
    assert rows == [
        {"method": "forward pass", "images": 20, "ms per image": pytest.approx(10), "forward passes": 1},
        {
            "method": "edges",
            "images": 20,
            "ms per image": pytest.approx(25),
            "forward passes": pytest.approx(2.5),
        },
    ]


def test_scores_are_made_anew_when_what_they_are_made_from_changes(tmp_path, places):
    """Other masks of RISE, other areas: no scores of before."""
    made = []
    for old, new in (("", ""), ("masks: 8", "masks: 9"), ("areas: [0.2]", "areas: [0.1, 0.2]")):
        sweep = sweep_of(tmp_path, FILE.replace(old, new) if old else FILE)
        subject = Workbench("sweep", "tiny", sweep.changes, places).subject()
        made.append(rivals._scores(subject, {}, ["rise"], 0, (14, 3, 2)))
    first, second, third = made
    assert first["image"].tolist() == [3, 4]
    assert first["area"].tolist() != second["area"].tolist()
    assert "drop_black@10" in third
    assert "drop_black@10" not in first
