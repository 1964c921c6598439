"""An ablation of one's own: here a new kind of conditions, registered, and a line in a sweep's file.

What the recipe can set needs no code at all: ``{method: width 4, generator.width: 4}`` is an ablation.
"""

from __future__ import annotations

import pandas as pd
from torch import Tensor
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.gan.conditions import CONDITIONS, ConditionMaker

FILE = """
title: Does a generator need Grad-CAMs that are the right way up?
profile: tiny
settings:
  - {group: reference, method: LSFT}
  - {group: conditions, method: negatives, gan.conditions: negatives}
"""


@CONDITIONS.register("negatives")
class Negatives(ConditionMaker):
    """Every CGMA turned into its negative."""

    def conditions(self, images: Tensor, maps: Tensor, explained: Tensor) -> Tensor:
        return 1 - super().conditions(images, maps, explained)


def test_an_ablation_of_ones_own(places, tmp_path):
    (tmp_path / "upside_down.yaml").write_text(FILE)
    root = str(places.notebooks.parent)
    done = CliRunner().invoke(app, ["sweep", str(tmp_path / "upside_down.yaml"), "--root", root])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(places.figures / "upside_down/results.csv")
    dice = table[table["measure"] == "dice"].set_index("method")
    assert dice.index.tolist() == ["LSFT", "negatives"]
    assert dice["group"].tolist() == ["reference", "conditions"]
    assert (dice["n"] == 8).all()
    means = table.pivot(index="measure", columns="method", values="mean")
    assert not means["LSFT"].equals(means["negatives"]), "another generator came of it"
