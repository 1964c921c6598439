"""A report of a CNN: every sentence follows from its table, whatever the CNN, the images and the folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from reporting.nets import Changed, Colours, Flat, Smooth, Tokens, only_noise_is_finite, some_are_not_finite
from reporting.reader import Page, problems, read_csv
from torchvision.models import VisionTransformer
from torchvision.transforms.functional import to_pil_image

import gan_lib
from gan_lib.core.storage import read_json
from gan_lib.data import ImageSplit
from gan_lib.reporting import case, photos_of, read_split, run
from gan_lib.reporting.parts import Part, Sentence, load_part
from gan_lib.workbench.claims import Claim
from gan_lib.workbench.explain import find_photos

NAMES = ("red", "green", "blue")
PARTS = ["explained", "classes", "trust", "concepts", "beside", "shown", "made"]
SECONDS = re.compile(r'<figure class="table[^>]*id="table-seconds".*?</figure>', re.DOTALL)


def pixels(count, size=(32, 32), seed=0):
    """Dim noise (N, 3, H, W) with a square that is red, green or blue in turn."""
    made = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 0.4
    for number in range(count):
        made[number, number % 3, 4:14, 4 + number % 7 : 14 + number % 7] += 0.6
    return made.clamp(0, 1)


def split_of(count=30, labels=None, size=(32, 32)):
    right = torch.arange(count) % 3
    return ImageSplit((pixels(count, size) * 255).byte(), right if labels is None else labels(right))


def wrapped(net, **options):
    return gan_lib.wrap(net, mean=[0, 0, 0], std=[1, 1, 1], **{"image_size": 32, **options})


def colours(**options):
    return wrapped(Colours(), **{"class_names": NAMES, **options})


def report(cnn, images, folder, **options):
    """A report that a reader has checked."""
    written = gan_lib.report(cnn, images, folder, **options)
    assert problems(folder) == []
    return written


def timeless(folder):
    """The page without the time that it took."""
    return SECONDS.sub("", (folder / "report.html").read_text())


def about(folder):
    return json.loads((folder / "report.json").read_text())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole report of a CNN that sees the mean colour alone, and what was told while it was made."""
    folder, told = tmp_path_factory.mktemp("whole"), []
    return folder, report(colours(), split_of(), folder, tell=told.append), told


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it, to be harmed."""
    shutil.copytree(whole[0], tmp_path / "copy")
    return tmp_path / "copy"


# -- what it says ------------------------------------------------------------------------------------


def test_it_is_whole_and_says_what_is_so(whole):
    folder, written, told = whole
    assert [path for path in PARTS if load_part(folder / "parts" / path) is None] == []
    assert list(run.NAMES) == PARTS
    assert written.failed == {}
    assert written.page == folder / "report.html"
    assert next(own for own in told if own[1:3] == "/7") == "1/7 What was explained"
    findings = written.findings
    columns = [
        "part",
        "sentence",
        "claim",
        "table",
        "where",
        "condition",
        "value",
        "low",
        "high",
        "n",
        "verdict",
    ]
    assert list(findings) == list(read_csv(folder / "findings.csv")) == columns
    assert set(written.lead) <= set(findings["sentence"])
    assert written.lead[0].startswith("It relies on something that returns: 3 of ")
    assert any("For red the CNN relies on the mean colour of the whole image" in own for own in written.lead)
    right = findings[findings["table"] == "right"].iloc[0]
    assert (right["value"], right["n"], right["verdict"]) == (100, 30, "holds")
    confused = read_csv(folder / "tables/confused.csv").iloc[0]
    assert confused["mistaken"] == "0"


def test_the_cnn_stays_as_it_is_and_chance_from_outside_does_not_count(whole, tmp_path):
    cnn = colours()
    before = {name: own.clone() for name, own in cnn.state_dict().items()}
    torch.manual_seed(77)
    report(cnn, split_of(), tmp_path)
    assert all(torch.equal(before[name], own) for name, own in cnn.state_dict().items())
    assert not cnn.training
    tables = {path.name: path.read_bytes() for path in (tmp_path / "tables").glob("*.csv")}
    first = {path.name: path.read_bytes() for path in (whole[0] / "tables").glob("*.csv")}
    assert {name for name in first if tables[name] != first[name]} <= {"seconds.csv"}


def test_a_real_cnn_with_a_method_of_its_own(tmp_path):
    cnn = gan_lib.load_cnn("slim_vgg")
    digits = gan_lib.digits_in_scenes(train=10, test=30, size=64, seed=3).test
    written = report(cnn, digits, tmp_path, method="contrastive-lsft")
    assert about(tmp_path)["settings"]["method"] == "contrastive_lsft"
    (right,) = written.findings.loc[written.findings["table"] == "right", "value"]
    assert right > 80


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda right: (right + 1) % 3,
            "The CNN is wrong for most images whose class is known: right are 0 %",
        ),
        (lambda right: torch.where(torch.arange(len(right)) < 5, right, -1), "which may be less than half"),
        (lambda right: torch.full_like(right, -1), None),
    ],
    ids=["all wrong", "five known", "none known"],
)
@pytest.mark.usefixtures("only_classes")
def test_what_is_right(tmp_path, change, said):
    written = report(colours(), split_of(labels=change), tmp_path)
    told = written.findings.loc[written.findings["table"] == "right", "sentence"].tolist()
    assert [said in own for own in told] == ([True] if said else [])
    assert ("which predictions are right is not known" in written.page.read_text()) is (said is None)


# -- images ------------------------------------------------------------------------------------------

ODD = {
    "one": lambda: pixels(1),
    "two": lambda: pixels(2),
    "all the same": lambda: pixels(1).repeat(9, 1, 1, 1),
    "black": lambda: torch.zeros(8, 3, 32, 32),
    "not square": lambda: pixels(12, (24, 48)),
    "small": lambda: pixels(12, (16, 16)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_images(tmp_path, kind):
    images = ODD[kind]()
    written = report(colours(image_size=tuple(images.shape[-2:])), images, tmp_path)
    assert written.failed == {}
    if len(images) < 6:
        assert set(written.findings["verdict"]) == {"undecided"}, "a handful of images decides nothing"


@pytest.mark.usefixtures("only_classes")
def test_all_that_images_may_be(tmp_path):
    paths = []
    for number, picture in enumerate(pixels(3)):
        paths.append(tmp_path / f"{number}.png")
        values = (picture.permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(values).save(paths[-1])
    opened = [Image.open(path) for path in paths]
    given = [*paths, paths, [str(path) for path in paths], opened[0], opened, pixels(3), split_of(6)]
    for number, images in enumerate(given):
        report(colours(), images, tmp_path / f"out {number}")
        table = read_csv(tmp_path / f"out {number}" / "tables/images.csv")
        known = isinstance(images, ImageSplit)
        assert table["label"].tolist() == (list(NAMES * 2) if known else [""] * len(table))
        assert table["prediction"][0] in NAMES
    assert read_csv(tmp_path / "out 3" / "tables/images.csv")["image"].tolist() == ["0.png", "1.png", "2.png"]


WRONG = [
    (Colours, {}, TypeError, r"gan_lib.wrap\(Colours, ...\)"),
    (colours, {"images": []}, ValueError, "no images were given"),
    (colours, {"images": split_of(0)}, ValueError, "there is no image"),
    (colours, {"images": "nowhere.png"}, FileNotFoundError, "nowhere.png"),
    (colours, {"images": 5}, TypeError, "a picture is a path"),
    (
        colours,
        {"images": split_of(6, lambda right: right + 5)},
        ValueError,
        "label 5, the CNN the classes 0 to 2",
    ),
    (colours, {"method": "nonsense"}, KeyError, "unknown method 'nonsense'"),
    (colours, {"method": "contrastive-lsft"}, KeyError, "is trained for this CNN"),
    (colours, {"method": ["edges", "random"]}, TypeError, "about one method"),
    (colours, {"seed": -1}, ValueError, "a seed is"),
    (colours, {"seed": 2**64}, ValueError, "a seed is"),
    (lambda: wrapped(Flat(), class_names=NAMES), {}, ValueError, "grad_cam: no layer .* name another method"),
    (
        lambda: wrapped(Changed(Colours(), only_noise_is_finite)),
        {},
        ValueError,
        "of 6 images, image 0: .* not finite",
    ),
]


@pytest.mark.parametrize(("make", "given", "kind", "told"), WRONG)
def test_what_is_wrong_is_told_and_leaves_nothing_behind(tmp_path, make, given, kind, told):
    with pytest.raises(kind, match=told):
        gan_lib.report(make(), **{"images": split_of(6), "out": tmp_path / "out", **given})
    assert not list((tmp_path / "out").rglob("*"))


# -- CNNs --------------------------------------------------------------------------------------------

OUTPUTS = {
    "binary": (lambda: Colours(1), {"class_names": ["spot"]}),
    "multi_label_probabilities": (lambda: Changed(Colours(), lambda own, _: own.sigmoid()), {}),
    "probabilities": (lambda: Changed(Colours(), lambda own, _: own.softmax(1)), {}),
    "regression": (lambda: Colours(1), {"span": (0, 30)}),
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_whatever_outputs_mean(tmp_path, output):
    make, options = OUTPUTS[output]
    written = report(wrapped(make(), output=output, **options), pixels(12), tmp_path)
    assert written.failed == {}
    card = read_csv(tmp_path / "tables/cnn.csv").set_index("what")["value"]
    assert card["how surely that is known"].startswith("it was said")


def classes_by_token(classes=3):
    """A vision transformer: of its last block the class token alone is read."""
    torch.manual_seed(0)
    made = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=classes)
    torch.nn.init.normal_(made.heads.head.weight)
    return made


LAYERS = {Smooth: "features.3", Tokens: "attention", classes_by_token: "encoder.layers.encoder_layer_1.ln_1"}


@pytest.mark.parametrize("net", LAYERS)
def test_a_cnn_without_relu_and_transformers_have_concepts(tmp_path, net):
    written = report(wrapped(net()), pixels(12), tmp_path)
    assert written.failed == {}
    about, signed = read_json(tmp_path / "parts/concepts/part.json")["blocks"][:2]
    assert f"{LAYERS[net]}, weighted" in about["text"]
    assert "have both signs" in signed["text"]
    assert read_csv(tmp_path / "tables/importance.csv")["mean"].notna().all()
    assert {"classes", "trust", "shown"} <= set(written.findings["part"])
    assert (tmp_path / "tables/stays.csv").is_file() == (net is classes_by_token)


def test_predictions_that_stay_without_places(tmp_path):
    """A class token that never looks at the places says the same without them; one that does, not always."""
    cnn = classes_by_token()
    attention = cnn.encoder.layers[1].self_attention
    torch.nn.init.normal_(attention.out_proj.weight, std=3)
    with torch.no_grad():
        cnn.heads.head.bias -= cnn.eval()(pixels(12)).mean(0)  # or one class alone would be predicted
    report(wrapped(cnn), pixels(12), tmp_path / "looks")
    low = read_csv(tmp_path / "looks/tables/stays.csv").iloc[0]
    assert low["layer"] == "backbone.encoder.layers.encoder_layer_1.ln_1"
    with torch.no_grad():
        attention.out_proj.weight *= 1e-5
    report(wrapped(cnn), pixels(12), tmp_path / "keeps")
    assert float(read_csv(tmp_path / "keeps/tables/stays.csv")["mean"].item()) == 100
    assert float(low["mean"]) < 100


def test_a_cnn_without_places_has_no_concepts_and_all_the_rest(tmp_path):
    written = report(wrapped(Flat()), pixels(12), tmp_path, method="occlusion")
    assert written.failed == {}, "that is no failure"
    for name in ("concepts", "shown"):
        words, why = read_json(tmp_path / "parts" / name / "part.json")["blocks"]
        assert words["text"].startswith("There are no concepts of this CNN")
        assert "no layer of Classifier has places" in why["rows"][0][0]
    assert {"classes", "trust"} <= set(written.findings["part"])


def test_a_method_beside_that_cannot_is_left_out(tmp_path):
    told = []
    written = report(wrapped(Flat()), pixels(8), tmp_path, method="occlusion", tell=told.append)
    assert [own for own in told if "without grad_cam" in own]
    assert written.failed == {}
    assert about(tmp_path)["settings"]["method"] == "occlusion"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.usefixtures("only_classes")
def test_images_without_finite_outputs_are_left_out_and_told(tmp_path, value):
    cnn = wrapped(Changed(Colours(), some_are_not_finite(value)), class_names=NAMES)
    report(cnn, split_of(12), tmp_path)
    skipped = read_csv(tmp_path / "tables/skipped.csv")
    assert skipped["image"].tolist() == [f"image {number}" for number in (0, 3, 6, 9)]
    assert set(skipped["reason"]) == {"the CNN's probabilities are not finite"}
    assert set(read_csv(tmp_path / "tables/images.csv")["prediction"]) == {"green", "blue"}


def test_a_cnn_that_never_changes_its_mind(tmp_path):
    constant = Changed(Colours(), lambda own, _: 0 * own + torch.tensor([2.0, 0.0, -2.0]))
    written = report(wrapped(constant, class_names=NAMES), split_of(12), tmp_path)
    reading = written.findings.set_index("table").loc["reading"]
    assert reading["verdict"] != "holds"
    assert "All images are predicted as one class" in written.page.read_text()


NASTY = {
    "html": ("<b>x</b><script>alert(1)</script>", "\"quoted\" & 'single'", "<!--"),
    "forms": ("{value} {0} {}", "Cat", "cat"),
    "long": ("n02102040_" + "Spot" * 250, "two\nlines\r\nor three\ttabs", "a, comma; semicolon"),
    "rows": ("a, concept = 1", "class = a, concept = 2", "nan"),
}


@pytest.mark.parametrize("kind", NASTY)
def test_names_of_any_kind(tmp_path, kind):
    names = NASTY[kind]
    written = report(colours(class_names=names), split_of(24), tmp_path)
    assert written.failed == {}
    page = Page(written.page.read_text())
    shown = [own.removeprefix("n02102040_").replace("\r\n", "\n") for own in names]
    assert all(own in page.text for own in shown)
    assert set(read_csv(tmp_path / "tables/classes.csv")["class"]) == {
        own.removeprefix("n02102040_") for own in names
    }


# -- names of folders and files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "folder", "label"),
    [
        (NAMES, "green", 1),
        (NAMES, "GREEN", 1),
        (NAMES, "n01234567_green", 1),
        (NAMES, "1", -1),
        (("a", "b", "1"), "1", 2),
        (("garbage truck", "x"), "garbage_truck", 0),
        (("n03417042_garbage_truck", "x"), "garbage-truck", 0),
        (("n03417042_garbage_truck", "x"), "n03417042", 0),
        (("n03417042_garbage_truck", "x"), "n03417042_garbage_truck", 0),
        (("n00000001_crane", "n00000002_crane"), "crane", -1),
        (("n00000001_crane", "n00000002_crane"), "n00000002_crane", 1),
        (("Cat", "cat"), "cat", 1),
        (("Cat", "cat"), "CAT", -1),
        (NAMES, "yellow", -1),
        (NAMES, "", -1),
    ],
)
def test_folders_that_name_a_class(tmp_path, names, folder, label):
    (tmp_path / folder).mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(tmp_path / folder / "x.png")
    cnn = wrapped(Colours(len(names)), class_names=names)
    split, skipped = read_split(photos_of([tmp_path], tmp_path / "out"), cnn, (32, 32))
    assert split.labels.tolist() == [label]
    assert skipped == []


def test_pictures_of_reports_are_no_photos(copy):
    (copy / "mine").mkdir()
    Image.new("RGB", (8, 8)).save(copy / "mine/parts.png")
    own = [(copy / "mine/parts.png", Path("mine/parts.png"))]
    assert photos_of([copy], copy) == photos_of([copy], copy.parent / "other") == own
    (copy / "parts/classes/part.json").unlink()  # as after an interruption
    assert photos_of([copy], copy) == own
    with pytest.raises(FileNotFoundError, match="but the pictures of a report"):
        photos_of([copy / "parts"], copy)


# -- the folder --------------------------------------------------------------------------------------


def test_the_same_again_makes_nothing_again(copy):
    before, told = contents(copy), []
    written = report(colours(), split_of(), copy, tell=told.append)
    assert contents(copy) == before
    assert told == []
    assert written.lead


def with_name(name):
    def change(folder):
        (folder / name).unlink()

    return change


def with_text(name, text):
    def change(folder):
        (folder / name).write_bytes(text)

    return change


HARM = {
    "half a part": with_text("parts/classes/part.json", b'{"name": "cla'),
    "another part": with_text("parts/classes/part.json", b"[]"),
    "no text": with_text("parts/explained/part.json", b"\xff\xfe"),
    "no picture": with_name("parts/classes/pictures/0001.jpg"),
    "empty picture": with_text("parts/classes/pictures/0001.jpg", b""),
    "no table of a part": with_name("parts/explained/tables/right.csv"),
    "no tables": lambda folder: shutil.rmtree(folder / "tables"),
    "no page": with_name("report.html"),
    "no findings": with_name("findings.csv"),
    "half of what was seen": lambda folder: with_text(
        "kept/seen.safetensors", (folder / "kept/seen.safetensors").read_bytes()[:900]
    )(folder),
    "nothing of what was seen": with_name("kept/seen.safetensors"),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_is_damaged_is_made_again(whole, copy, harm):
    HARM[harm](copy)
    report(colours(), split_of(), copy)
    assert timeless(copy) == timeless(whole[0])
    changed = {path for path, own in contents(copy).items() if contents(whole[0])[path] != own}
    times = {"parts/made/part.json", "parts/made/tables/seconds.csv", "tables/seconds.csv"}
    assert {path.as_posix() for path in changed} <= times | {"report.html", "report.json"}


@pytest.mark.parametrize("place", ["classes", "relies"])
def test_an_interruption_leaves_a_page_and_goes_on(whole, tmp_path, monkeypatch, place):
    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            gan_lib.report(colours(), split_of(), tmp_path)
    assert problems(tmp_path) == []
    assert "Not made yet." in Page((tmp_path / "report.html").read_text()).text
    report(colours(), split_of(), tmp_path)
    assert timeless(tmp_path) == timeless(whole[0])


def test_a_part_that_raises_is_told_in_its_place(copy, whole, monkeypatch):
    def fail(_):
        raise RuntimeError("<b>no</b>\n  {memory}")

    (copy / "parts/trust/part.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(run, "trust", fail)
        written = gan_lib.report(colours(), split_of(), copy)
    assert written.failed == {"trust": "RuntimeError: <b>no</b> {memory}"}
    page = Page(written.page.read_text())
    assert "This part could not be made: RuntimeError: <b>no</b> {memory}" in page.text
    assert about(copy)["failed"] == dict(written.failed)
    assert set(written.findings["part"]) == {"explained", "classes", "concepts", "beside", "shown"}
    assert report(colours(), split_of(), copy).failed == {}
    assert timeless(copy) == timeless(whole[0])


OTHER = {
    "seed": lambda: (colours(), split_of(), {"seed": 1}),
    "images": lambda: (colours(), split_of(29), {}),
    "labels": lambda: (colours(), split_of(labels=lambda right: 0 * right), {}),
    "class_names": lambda: (colours(class_names=["a", "b", "c"]), split_of(), {}),
    "output": lambda: (colours(output="multi_label"), split_of(), {}),
    "method": lambda: (colours(), split_of(), {"method": "grad_cam"}),
    "weights": lambda: (wrapped(Changed(Colours(), lambda own, _: own), class_names=NAMES), split_of(), {}),
}


@pytest.mark.parametrize("other", OTHER)
def test_a_report_of_other_settings_is_refused(copy, other):
    before = contents(copy)
    cnn, images, options = OTHER[other]()
    with pytest.raises(ValueError, match=r"holds a report of other settings \(.*overwrite it \(overwrite\)"):
        gan_lib.report(cnn, images, copy, **options)
    assert contents(copy) == before


@pytest.mark.usefixtures("only_classes")
def test_what_the_report_is_about_and_its_options_are_settings(tmp_path):
    cnn = colours()
    report(cnn, split_of(6), tmp_path, method="grad_cam")
    with pytest.raises(ValueError, match=r"\(method\)"):  # the same methods in another order
        gan_lib.report(cnn, split_of(6), tmp_path, method="evidence_projection")
    for seed in (0, 1):
        own = gan_lib.explainer("random", cnn, seed=seed)
        report(cnn, split_of(6), tmp_path / f"{seed}", method=own)
    with pytest.raises(ValueError, match=r"\(explainers\)"):
        gan_lib.report(cnn, split_of(6), tmp_path / "0", method=own)


FOREIGN = [
    "mine.txt",
    "parts/mine.txt",
    "parts/trust/mine.txt",
    "parts/classes/pictures/mine.png",
    "kept/mine.bin",
    "classes/mine.jpg",
]


@pytest.mark.usefixtures("only_classes")
def test_overwriting_takes_away_what_the_report_wrote_and_nothing_else(copy, tmp_path):
    for name in FOREIGN:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("mine")
    report(colours(), split_of(6), copy, seed=1, overwrite=True)
    assert all((copy / name).read_text() == "mine" for name in FOREIGN)
    report(colours(), split_of(6), tmp_path / "new", seed=1)
    left = {path for path in contents(copy) if path.as_posix() not in FOREIGN}
    assert left == set(contents(tmp_path / "new"))


@pytest.mark.parametrize(
    "name", ["report.html", "report.json", "findings.csv", "tables/own.csv", "parts/trust/a"]
)
@pytest.mark.usefixtures("only_classes")
def test_files_of_another_origin_are_not_written_over(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="is there already, and not from such a run"):
        gan_lib.report(colours(), split_of(6), tmp_path)
    assert {path.as_posix() for path in contents(tmp_path)} == {name}


@pytest.mark.usefixtures("only_classes")
def test_a_run_that_failed_before_its_first_part_is_in_nobodys_way(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(case, "_maps", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            gan_lib.report(colours(), split_of(6), tmp_path)
    report(colours(), split_of(6), tmp_path, seed=1)


# -- how a sentence is decided -----------------------------------------------------------------------


def said(frame, **claim):
    part = Part("own", "Own")
    part.table("own", pd.DataFrame(frame), "")
    forms = ("Yes: {value} [{low}, {high}] of {n}.", "No: {value}.", "Perhaps: {value}.")
    part.say(Sentence(Claim("own", "own", **{"above": 0.0, **claim}), *forms))
    return [(own["verdict"], own["sentence"], own["n"]) for own in part.findings]


def row(mean, low, high, n):
    return {"mean": mean, "low": low, "high": high, "n": n}


def test_few_images_decide_nothing():
    assert said([row(0.5, 0.25, 0.75, 6)]) == [("holds", "Yes: 0.5 [0.25, 0.75] of 6.", 6)]
    assert said([row(0.5, 0.25, 0.75, 5)]) == [("undecided", "Perhaps: 0.5.", 5)]
    assert said([row(-0.5, -0.75, -0.25, 5)]) == [("undecided", "Perhaps: -0.5.", 5)]
    assert said([row(0.5, 0.25, 0.75, 20), row(2, 1, 3, 2)]) == [("undecided", "Perhaps: 2.", 2)]
    assert said([row(-0.5, -0.6, -0.4, 20), row(2, 1, 3, 2)]) == [("does not hold", "No: -0.5.", 20)]


def test_what_has_no_value_leaves_it_undecided():
    nothing = row(torch.nan, torch.nan, torch.nan, 0)
    assert said([nothing]) == []
    assert said([row(0.5, 0.25, 0.75, 9), nothing]) == [("undecided", "Perhaps: 0.5.", 9)]
    assert said([row(-0.5, -0.6, -0.4, 9), nothing]) == [("does not hold", "No: -0.5.", 9)]


def test_a_value_has_its_own_count_and_whole_numbers_all_their_digits():
    frame = [{"own": 1234.0, "own_low": 1000.0, "own_high": 2000.5, "own_n": 1500, "n": 2}]
    assert said(frame, value="own") == [("holds", "Yes: 1234 [1000, 2e+03] of 1500.", 1500)]
    assert said([{"mean": -0.0, "n": 3}], below=1.0, above=None) == [("holds", "Yes: 0 [, ] of 3.", 3)]


# -- the reader --------------------------------------------------------------------------------------


def in_json(change):
    """Change every file of findings alike, as a report that lies would have it."""

    def harm(folder):
        for path in [folder / "report.json", *folder.glob("parts/*/part.json")]:
            told = json.loads(path.read_text())
            for own in [*told["findings"], *told.get("blocks", [])]:
                if own.get("table") == "compared" and own.get("where") == "against = random":
                    change(own)
            path.write_text(json.dumps(told))

    return harm


def in_csv(name, column, value, row=0):
    def harm(folder):
        table = read_csv(folder / f"tables/{name}.csv")
        table.loc[row, column] = value
        for path in [folder / f"tables/{name}.csv", *folder.glob(f"parts/*/tables/{name}.csv")]:
            table.to_csv(path, index=False, lineterminator="\n")

    return harm


def in_page(old, new):
    def harm(folder):
        text = (folder / "report.html").read_text()
        assert old in text
        (folder / "report.html").write_text(text.replace(old, new))

    return harm


LIES = {
    "the value": (in_json(lambda own: own.update(value=0.123)), "no row that decides"),
    "the verdict": (in_json(lambda own: own.update(verdict="undecided")), "the table says"),
    "the sentence": (in_json(lambda own: own.update(sentence="The maps are better than 7.5.")), "numbers"),
    "the rows": (in_json(lambda own: own.update(where="against = nobody")), "no row of compared"),
    "the table": (in_csv("right", "low", "20"), "the table says"),
    "a single image": (in_csv("images", "prediction", "blue"), "its images give"),
    "shown and hidden": (in_csv("shown_and_hidden", "shown", "0.111"), "its images give"),
    "below a picture": (in_csv("shown_and_hidden", "whole", "0.111"), "below a picture"),
    "beside a concept": (in_csv("importance", "mean", "0.111"), "but its table says"),
    "an exchange": (in_csv("exchanged", "effect", "0"), "its images give"),
    "how many": (in_csv("found", "value", "9"), "found counts"),
    "the badge": (in_page('">holds</span>', '">undecided</span>'), "the page shows other findings"),
    "a script": (in_page("</main>", "<script></script></main>"), "the page holds"),
    "a picture": (in_page("data:image/jpeg;base64,", "http://x.example/"), "img shows http"),
}


@pytest.mark.parametrize("lie", LIES)
def test_the_reader_finds_lies(copy, lie):
    harm, told = LIES[lie]
    harm(copy)
    assert any(told in own for own in problems(copy)), problems(copy)


def test_the_reader_finds_measured_numbers_in_words(copy):
    told = json.loads((copy / "parts/classes/part.json").read_text())
    told["blocks"].append({"kind": "words", "text": "The map shows 73 % of the red."})
    (copy / "parts/classes/part.json").write_text(json.dumps(told))
    assert any("words state the numbers ['73']" in own for own in problems(copy))


def test_the_nearest_folder_named_after_a_class_gives_the_label(tmp_path):
    """Below split folders, and where a class's folder is itself what is given."""
    cnn = wrapped(Colours(), class_names=NAMES)
    for name in NAMES[:2]:
        folder = tmp_path / "photos" / "train" / name / "new"
        folder.mkdir(parents=True)
        to_pil_image(torch.rand(3, 32, 32)).save(folder / f"{name}.png")
    split, _ = read_split(find_photos([tmp_path / "photos"], tmp_path / "out"), cnn, (32, 32))
    assert dict(zip(split.paths, split.labels.tolist(), strict=True)) == {
        f"train/{name}/new/{name}.png": label for label, name in enumerate(NAMES[:2])
    }
    alone = tmp_path / "photos" / "train" / NAMES[1]
    (alone / "new" / f"{NAMES[1]}.png").rename(alone / "one.png")
    split, _ = read_split(find_photos([alone], tmp_path / "out"), cnn, (32, 32))
    assert split.labels.tolist() == [1]
