"""Who wins against whom."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gan_lib.metrics import wins_against


def test_wins_against():
    table = pd.DataFrame(
        [
            {"method": method, "seed": seed, "image": image, "drop_black": drop}
            for method, seed, drops in (("Grad-CAM", 0, [5, 5, 5]), ("ours", 0, [1, 5, 9]), ("ours", 1, [1, 1, np.nan]))
            for image, drop in enumerate(drops)
        ]
    )  # fmt: skip
    made = wins_against(table, "drop_black", "Grad-CAM")
    assert made["won"].tolist()[:8] == [0, 0, 0, 100, 0, 0, 100, 100]
    assert made["lost"].tolist()[:8] == [0, 0, 0, 0, 0, 100, 0, 0]
    assert np.isnan(made["won"].tolist()[8])
    higher = wins_against(table, "drop_black", "Grad-CAM", lower_is_better=False)
    assert higher["won"].tolist()[3:6] == [0, 0, 100]
