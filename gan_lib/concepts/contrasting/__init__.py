"""Contrasting two classes: what speaks for this one rather than that one, and does it?"""

from gan_lib.concepts.contrasting.evidence import (
    Evidence,
    contrasting_concepts,
    distance_maps,
    gather_evidence,
    held_out_accuracy,
)
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes, fit_hyperplanes
from gan_lib.concepts.contrasting.insertion import freest, insertion_round, insertion_test, paste
from gan_lib.concepts.contrasting.shifting import DIRECTIONS, PUBLISHED_OFFSETS, shifting_test

__all__ = [
    "DIRECTIONS",
    "PUBLISHED_OFFSETS",
    "Evidence",
    "Hyperplanes",
    "contrasting_concepts",
    "distance_maps",
    "fit_hyperplanes",
    "freest",
    "gather_evidence",
    "held_out_accuracy",
    "insertion_round",
    "insertion_test",
    "paste",
    "shifting_test",
]
