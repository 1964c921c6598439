"""One table of all registered measures, and what it does where there is little to judge."""

from __future__ import annotations

import pytest
import torch

from gan_lib.core.masking import top_share
from gan_lib.explainers import Edges, GradCAM
from gan_lib.metrics import (
    MEASURES,
    Measure,
    Probe,
    adcc,
    class_probability,
    dice,
    headings,
    judge,
    max_sensitivity,
    perturbation_curves,
    road_curves,
    summarise,
)
from gan_lib.metrics.measures import column

TARGET = torch.tensor([0, 2, 3])  # not what the net predicts
EVIDENCE = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
EVIDENCE[..., 2:9, 4:12] = True


@pytest.fixture
def explainers(tiny_net):
    return {("grad_cam", 0): GradCAM(tiny_net, "features.5"), ("edges", 3): Edges(tiny_net)}


@pytest.fixture
def maps(explainers, images):
    return {key: explainer.attribute(images, TARGET) for key, explainer in explainers.items()}


@pytest.fixture
def explain(explainers):
    return {key: explainer.attribute for key, explainer in explainers.items()}


def test_columns_of_all_measures_in_their_order(tiny_net, images, maps, explain):
    settings = {"fills": ("black", "mean"), "areas": (0.05, 0.125), "steps": 4, "road": (0.5,)}
    scores, curves = judge(
        tiny_net,
        images,
        maps,
        TARGET,
        evidence=EVIDENCE,
        reference=maps["grad_cam", 0],
        explain=explain,
        **settings,
    )
    variants = [f"{fill}{area}" for area in ("", "@5", "@12.5") for fill in settings["fills"]]
    assert list(scores) == [
        *("method", "seed", "image", "area", "entropy", "dice"),
        *("evidence_dice", "evidence_iou", "mass", "pointing", "pointing_exact", "distinct_values"),
        *(f"{name}_{variant}" for variant in variants for name in ("drop", "increase")),
        *("insertion", "deletion", "insertion - deletion", "road", "adcc", "sensitivity"),
    ]
    assert scores["method"].tolist() == ["grad_cam"] * 3 + ["edges"] * 3
    assert scores["seed"].tolist() == [0] * 3 + [3] * 3
    assert scores["image"].tolist() == [0, 1, 2] * 2
    assert scores["dice"].tolist()[:3] == [1, 1, 1]
    difference = scores["insertion"] - scores["deletion"] - scores["insertion - deletion"]
    assert difference.abs().max() < 1e-6
    assert list(curves) == ["method", "seed", "share", "insertion", "deletion"]
    in_parts = judge(
        tiny_net, images, maps, TARGET, evidence=EVIDENCE, explain=explain, batch_size=2, **settings
    )
    known = [name for name in scores if name not in ("method", "dice")]
    assert in_parts.scores[known].to_numpy() == pytest.approx(scores[known].to_numpy(), abs=1e-3, nan_ok=True)
    assert in_parts.curves["insertion"].tolist() == pytest.approx(curves["insertion"].tolist(), abs=1e-5)


def test_every_image_is_asked_about_its_own_class(tiny_net, images, maps, explain):
    """Step by step, with the functions that the measures are made of."""
    own = maps["edges", 3]
    scores, curves = judge(
        tiny_net, images, {("edges", 3): own}, TARGET, explain=explain, areas=[0.25], steps=4, road=(0.5, 0.2)
    )
    before = class_probability(tiny_net, images, TARGET)
    assert before.tolist() == pytest.approx(
        [float(tiny_net(images).softmax(1)[i, TARGET[i]]) for i in range(3)]
    )
    for name, masks in (("drop_black", own), ("drop_black@25", top_share(own, 0.25).float())):
        after = class_probability(tiny_net, images * masks, TARGET)
        expected = 100 * (before - after).clamp(min=0) / before
        assert scores[name].tolist() == pytest.approx(expected.tolist(), abs=1e-3)
        assert scores[name.replace("drop", "increase")].tolist() == (100.0 * (after > before)).tolist()
    probe = Probe(tiny_net)
    stepwise = perturbation_curves(probe, images, own, TARGET, 4)
    assert curves["share"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curves["insertion"].tolist() == pytest.approx(stepwise.insertion.mean(0).tolist(), abs=1e-6)
    assert curves["deletion"].tolist() == pytest.approx(stepwise.deletion.mean(0).tolist(), abs=1e-6)
    heights = stepwise.deletion.double()  # four trapezoids, each a quarter wide
    areas = (heights[:, :-1] + heights[:, 1:]).sum(1) / 8
    assert scores["deletion"].tolist() == pytest.approx(areas.tolist(), abs=1e-6)
    highest, lowest = road_curves(probe, images, own, TARGET, (0.5, 0.2))
    assert scores["road"].tolist() == pytest.approx(((lowest - highest).mean(1) / 2).tolist(), abs=1e-6)
    shown = images * own
    after = class_probability(tiny_net, shown, TARGET)
    expected = adcc(own, explain["edges", 3](shown, TARGET), before, after)
    assert scores["adcc"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert scores["sensitivity"].tolist() == max_sensitivity(explain["edges", 3], images, TARGET).tolist()


def test_costly_measures_look_at_the_first_images(tiny_net, images, maps, explain):
    def scores(**first):
        return judge(tiny_net, images, maps, TARGET, explain=explain, fills=(), first=first).scores

    few = scores(adcc=2, sensitivity=1)
    assert few["adcc"].isna().tolist() == [False, False, True] * 2
    assert few["sensitivity"].isna().tolist() == [False, True, True] * 2
    results = summarise(few).set_index(["method", "measure"])
    assert results.loc[("edges", "adcc"), ["n", "skipped"]].tolist() == [2, 1]
    assert results.loc[("edges", "sensitivity"), ["n", "skipped"]].tolist() == [1, 2]
    assert few["adcc"].tolist()[:2] == scores(adcc=500)["adcc"].tolist()[:2]
    assert "sensitivity" not in scores(sensitivity=0)  # it ended in a ZeroDivisionError
    assert {"adcc", "area"} <= {*scores(sensitivity=0)}


def test_every_method_is_explained_again_by_itself(tiny_net, images, maps):
    """The map of what a map shows: the same again for one method, its opposite for the other."""
    first, second = maps.values()
    made = {("same", 0): first, ("opposite", 0): second}
    explain = {("same", 0): lambda x, y: first, ("opposite", 0): lambda x, y: 1 - second}
    scores = judge(tiny_net, images, made, TARGET, explain=explain, fills=(), first={"sensitivity": 0}).scores
    adcc = scores.groupby("method")["adcc"].mean()
    assert adcc["same"] > 0.3
    assert adcc["opposite"] == pytest.approx(0, abs=1e-6)


def test_the_pointing_game_may_miss_by_three_per_cent(tiny_net):
    """On images of 64 pixels that is by two."""
    pictures, maps = torch.zeros(3, 3, 64, 64), torch.zeros(3, 1, 64, 64)
    evidence = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    evidence[..., 10] = True
    for row, place in enumerate((10, 12, 13)):
        maps[row, 0, 30, place] = 1
    scores = judge(tiny_net, pictures, {("m", 0): maps}, TARGET, evidence=evidence, fills=()).scores
    assert scores["pointing"].tolist() == [1, 1, 0]
    assert scores["pointing_exact"].tolist() == [1, 0, 0]


def test_what_is_not_there_makes_no_column(tiny_net, images, maps):
    scores, curves = judge(tiny_net, images, maps, TARGET, fills=(), areas=[0.1])
    assert list(scores) == ["method", "seed", "image", "area", "entropy"]
    assert curves.empty
    with_fills = judge(tiny_net, images, maps, TARGET).scores
    assert "increase_blur" in with_fills
    assert not {"road", "adcc", "insertion", "dice", "evidence_dice"} & {*with_fills}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": 0}, "images must be at least 1, not 0"),
        ({"maps": 0}, "maps must be at least 1, not 0"),
        ({"maps": 2}, r"not as many maps of \[\('edges', 3\)"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": -1}, "from 0"),
        ({"first": {"adcc": -1}}, "from 0"),
        ({"areas": [10]}, r"in 0\.\.1"),
        ({"road": [1.2]}, r"in 0\.\.1"),
    ],
)
def test_counts_and_shares_out_of_range(tiny_net, images, maps, changed, message):
    given = {"images": images, "maps": maps} | changed
    if given["images"] == 0 if isinstance(given["images"], int) else False:
        given |= {"images": images[:0], "maps": {key: own[:0] for key, own in maps.items()}}
    if isinstance(given["maps"], int):
        given["maps"] = {("edges", 3): maps["edges", 3][:2]} if given["maps"] else {}
    count = len(given["images"])
    with pytest.raises(ValueError, match=message):
        judge(tiny_net, given.pop("images"), given.pop("maps"), TARGET[:count], **given)
    with pytest.raises(KeyError, match="did you mean sensitivity"):
        judge(tiny_net, images, maps, TARGET, first={"sensitivty": 1})


# -- the registry -------------------------------------------------------------------------------------


def test_headings_and_directions():
    columns = [
        "area",
        "mass",
        "drop_black",
        "drop_blur@5",
        "increase_mean@12.5",
        "deletion",
        "insertion - deletion",
    ]
    assert headings(columns) == {
        "mass": ("mass", True),
        "drop_black": ("drop\nblack", False),
        "drop_blur@5": ("drop\nblur @5", False),
        "increase_mean@12.5": ("increase\nmean @12.5", True),
        "deletion": ("deletion", False),
        "insertion - deletion": ("insertion\n- deletion", True),
    }
    assert list(headings(columns, ["drop_black"])) == [
        "mass",
        "drop_black",
        "deletion",
        "insertion - deletion",
    ]
    assert {name: measure.higher_is_better for name, measure in MEASURES.items()} == {
        **dict.fromkeys(
            ("dice", "evidence_dice", "evidence_iou", "mass", "pointing", "pointing_exact"), True
        ),
        **dict.fromkeys(
            ("distinct_values", "increase", "insertion", "insertion - deletion", "road", "adcc"), True
        ),
        **dict.fromkeys((f"differing_{name}" for name in ("pointing", "mass", "precision")), True),
        **dict.fromkeys(("insertion_rerendered", "insertion - deletion_rerendered"), True),
        **dict.fromkeys(("area", "entropy", "drop", "deletion", "sensitivity"), False),
        "deletion_rerendered": False,
    }
    for wrong in ("won", "mass_black", "dropped"):
        with pytest.raises(KeyError, match="column of none"):
            column(wrong)


def test_a_measure_that_asks_for_what_there_is_not():
    def wishful(maps, truth):
        return truth

    with pytest.raises(ValueError, match=r"'wishful' asks for \['truth'\]; there are \['images', 'maps'"):
        Measure(wishful, "wishful")
    assert Measure(dice, "Dice").needs == {"maps", "reference"}  # the threshold has a default


def test_a_column_is_of_the_measure_with_the_longest_name(monkeypatch):
    monkeypatch.setattr(MEASURES, "_things", dict(MEASURES._things))
    MEASURES.register("drop_squared", Measure(lambda before, after: (before - after) ** 2, "squared drop"))
    assert column("drop_squared_black@10")[0] is MEASURES["drop_squared"]
    assert column("drop_squared_black@10")[1] == "squared drop\nblack @10"
    assert column("drop_black")[0] is MEASURES["drop"]


def test_what_does_not_fit_the_images_is_named(tiny_net, images, maps, explain):
    for name, own in (("evidence", EVIDENCE[:2]), ("reference", maps["edges", 3][:2])):
        with pytest.raises(ValueError, match=name):
            judge(tiny_net, images, maps, TARGET, **{name: own})
    with pytest.raises(ValueError, match="explained"):
        judge(tiny_net, images, maps, torch.tensor([0, 2, 3, 1]))
    with pytest.raises(KeyError, match="grad_cam"):
        judge(tiny_net, images, maps, TARGET, explain={("edges", 3): explain["edges", 3]})
    with pytest.raises(ValueError, match="area"):
        judge(tiny_net, images, maps, TARGET, explain=explain, first={"area": 1})
