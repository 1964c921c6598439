"""What axes and tables call measures, and what figures call classes."""

import re
from collections.abc import Sequence

LABELS = {
    "dice": "Dice with Grad-CAM",
    "drop_black": "average drop, black [%]",
    "drop_blur": "average drop, blur [%]",
    "area": "area",
    "increase_black": "increase, black [%]",
    "increase_blur": "increase, blur [%]",
    "evidence_dice": "Dice with the evidence",
    "pointing": "pointing game",
    "pointing_exact": "pointing game, exact",
    "distinct_values": "distinct values on the evidence",
}

WORDNET_ID = re.compile(r"^n\d{8}[_-]")  # in front of the names of ImageNet's folders


def class_titles(names: Sequence[str]) -> tuple[str, ...]:
    """What figures call classes: the names, those of ImageNet's folders without their WordNet id.

        class_titles(["n02102040_English_springer", "garbage_truck"])  # ("English springer", "garbage_truck")

    Names that would be the same without their ids keep them.
    """
    plain = [WORDNET_ID.sub("", name) for name in names]
    titles = [
        own.replace("_", " ") if own and own != name else name for own, name in zip(plain, names, strict=True)
    ]
    return tuple(
        title if titles.count(title) == 1 else name for title, name in zip(titles, names, strict=True)
    )
