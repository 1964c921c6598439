"""The fifth part: does the CNN rely on something beside the object?"""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from gan_lib.concepts.layers import probabilities
from gan_lib.reporting.case import Case
from gan_lib.reporting.classes import pictures
from gan_lib.reporting.parts import Part, Sentence, safe
from gan_lib.shortcuts import find_shortcuts, pasted
from gan_lib.shortcuts.find import LEAST, Shortcuts
from gan_lib.workbench.claims import Claim

SHOWN, LISTED, BESIDE = 8, 20, 4  # candidates with pictures, rows, and rows of what is not found
SAID = 3  # candidates that a sentence is about
WHAT = {
    "place": "the same pixels",
    "stamp": "a pattern that shines through",
    "returning": "a patch that returns",
    "border": "the border",
    "tone": "the mean colour of the whole image",
    "texture": "a texture behind everything",
}
COUNT = 32  # images of a test


def relies(case: Case) -> Part:
    """What returns in the images of a class and decides the prediction: a search that is told nothing."""
    part = Part("beside", "Does it rely on something beside the object?")
    part.words(
        "Objects differ from image to image; a stamp, a frame or a mark is the same again. For each class "
        "the search looks for what returns in its images and not in others: the same pixels at one place, a "
        "pattern that shines through, a patch that returns where the evidence is, the border, the mean "
        "colour, a texture. Each is pasted into images of other classes, beside a control that changes as "
        "much (the same place, from a third class): how many predictions become the class? And it is hidden "
        "where it is, by the same place of other images: how many lose it?"
    )
    part.words(
        f"What turns at least {LEAST:g} % more predictions than its control, with p < 0.05 by Holm, is "
        "found. If an object itself is at the same place with the same look in every image, it is found too: "
        "look at the pictures. Out of reach are things that change their look, such as other objects or "
        "scenery that come with a class, and textures or tones of a part of the image."
    )
    if len(case.classes()) < 2:
        part.words("All images are predicted as one class: there are no others to paste into.")
        return part
    evidence = case.maps[case.main].float() / 255
    found = find_shortcuts(case.cnn, case.split, evidence, case.predicted, COUNT, seed=case.seed)
    table = found.table
    if not len(table):
        part.words("No class is predicted for enough images to be searched.")
        return part
    names = case.names
    listed = min(LISTED, int((table["verdict"] == "found").sum()) + BESIDE)
    table = table.assign(name=[names[label] for label in table["class"]])
    part.table("candidates", table, "All candidates, the strongest first.", _readable(table), most=listed)
    part.table("exchanged", found.tests, "Every image of every test.", pd.DataFrame())
    _say(case, part, found, table)
    shown = [own for own in range(len(table)) if table["verdict"][own] == "found"][:SHOWN] or [0]
    lines, titles = [], []
    for number in shown:
        lines.append(_line(case, found, number))
        titles.append(f"{number + 1}. {names[found.candidates[number].label]}: {table['where'][number]}")
    heads = ["seen in", "cut out", "other image", "pasted", "control"]
    caption = "The strongest candidates. Below a picture stands what the CNN predicts for it."
    part.gallery(lines, heads, titles, caption)
    return part


def _say(case: Case, part: Part, found: Shortcuts, table: pd.DataFrame) -> None:
    """What was found, in words; the strongest of each class, or that nothing was."""
    count = int((table["verdict"] == "found").sum())
    counts = {"found": count, "undecided": int((table["verdict"] == "undecided").sum())}
    rows = [{"what": what, "value": own, "n": len(table)} for what, own in counts.items()]
    part.table("found", pd.DataFrame(rows), "How many candidates are found.", pd.DataFrame())
    part.say(
        Sentence(
            Claim("Nothing beside the object is found", "found", {"what": "found"}, "value", below=1),
            "None found: of {n} candidates beside the object none is shown to turn "
            f"{LEAST:g} % more predictions than its control.",
            "It relies on something that returns: {value} of {n} candidates turn predictions when they are "
            "pasted into other images. The strongest is the first of the list.",
            "",
        )
    )
    if counts["undecided"]:
        part.say(
            Sentence(
                Claim("No candidate is undecided", "found", {"what": "undecided"}, "value", below=1),
                "No candidate is left undecided.",
                "Undecided are {value} of {n} candidates: they turn some predictions, but it is not sure "
                f"that they turn {LEAST:g} % more than their controls, or that they do not.",
                "",
            )
        )
    said: set[int] = set()
    for own in table[table["verdict"] == "found"].to_dict("records"):
        if own["class"] in said or len(said) == SAID:
            continue
        said.add(own["class"])
        what, name = WHAT[own["kind"]], safe(case.names[own["class"]])
        where = "" if own["where"] == "everywhere" or own["kind"] == "border" else f" ({own['where']})"
        told = (
            f"pasted into images of other classes it turns {own['pasted_share']:.0f} % of them, its control "
            f"{own['pasted_control']:.0f} % (difference {{value}} [{{low}}, {{high}}])."
        )
        claim = f"Candidate {own['candidate'] + 1} turns predictions"
        only = {"candidate": own["candidate"]}
        part.say(
            Sentence(
                Claim(claim, "candidates", only, value="pasted", above=0),
                f"For {name} the CNN relies on {what}{where}: {told}",
                f"For {name} the CNN does not rely on {what}{where}: {told}",
                f"Whether for {name} the CNN relies on {what}{where} is undecided: {told}",
            )
        )


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    def percent(name: str) -> pd.Series:
        return table[name].map(lambda own: "" if pd.isna(own) else f"{own:.0f} %")

    def interval(name: str) -> pd.Series:
        cells = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        return pd.Series(
            ["" if pd.isna(own) else f"{own:.0f} [{low:.0f}, {high:.0f}]" for own, low, high in cells]
        )

    return pd.DataFrame(
        {
            "": range(1, len(table) + 1),
            "class": table["name"],
            "what": table["kind"].map(WHAT),
            "where": table["where"],
            "images": table["images"],
            "pasted: turned": percent("pasted_share"),
            "control": percent("pasted_control"),
            "difference [%]": interval("pasted"),
            "p (Holm)": table["pasted_p_holm"].map(lambda own: "" if pd.isna(own) else f"{own:.2g}"),
            "hidden: lost": percent("hidden_share"),
            "its control": percent("hidden_control"),
            "verdict": table["verdict"],
        }
    )


def _line(case: Case, found: Shortcuts, number: int) -> list[tuple[Tensor, str] | None]:
    """A candidate in pictures: where it is, cut out, an image before and after, and with the control."""
    own = found.candidates[number]
    rows = found.tests[(found.tests["candidate"] == number) & (found.tests["test"] == "pasted")]
    donor = int(own.rows[0])
    picture = case.images([donor])
    mask = own.mask(0)
    box = own.box
    seen = picture[0] if mask is None else _framed(picture[0], mask)
    cells: list[tuple[Tensor, str] | None] = [(seen, case.names[own.label])]
    if box is not None and own.kind != "border":
        left, top, right, bottom = box
        cut = picture[0, :, top:bottom, left:right]
        grown = max(1, 48 // max(cut.shape[-2:]))
        cells.append((cut.repeat_interleave(grown, 1).repeat_interleave(grown, 2), ""))
    else:
        cells.append(None)
    if len(rows):
        turned = rows.sort_values("effect", ascending=False, kind="stable").iloc[0]
        image, giver, other = (
            case.images([int(turned[name])]) for name in ("image", "donor", "control_donor")
        )
        place = int((own.rows == int(turned["donor"])).nonzero()[0, 0])
        covered = own.mask(place)
        masks = None if covered is None else covered[None]
        after, control = pasted(image, giver, masks, own), pasted(image, other, masks, own)
        cells += [(pixels[0], _predicted(case, pixels)) for pixels in (image, after, control)]
    return [None if cell is None else (pictures(cell[0][None])[0], cell[1]) for cell in cells]


def _predicted(case: Case, image: Tensor) -> str:
    chance = probabilities(case.cnn, image)[0]
    return f"{case.names[int(chance.argmax())]} {float(chance.max()):.0%}"


def _framed(picture: Tensor, mask: Tensor) -> Tensor:
    """A picture (3, H, W) with everything outside a mask (1, H, W) dimmed."""
    return picture * mask + (0.35 * picture + 0.4) * (1 - mask)
