"""What axes and tables call measures."""

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
