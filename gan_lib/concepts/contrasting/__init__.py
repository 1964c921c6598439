"""Contrasting two classes: what speaks for this one rather than that one, and does it?"""

from gan_lib.concepts.contrasting.by_hand import (
    CONTROLS,
    STATES,
    Inserted,
    control_colour,
    free_places,
    insert_crop,
    insertion_table,
    most_confused,
    scaled_crop,
)
from gan_lib.concepts.contrasting.density import log_density, places_at_random, typical_places
from gan_lib.concepts.contrasting.evidence import (
    Evidence,
    contrasting_concepts,
    distance_maps,
    gather_evidence,
    held_out_accuracy,
)
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes
from gan_lib.concepts.contrasting.insertion import inserted_page, insertion_round, insertion_scores
from gan_lib.concepts.contrasting.marks import carried_marks, mark_reliance, marks_found
from gan_lib.concepts.contrasting.shifting import (
    PUBLISHED_OFFSETS,
    reached_scores,
    shifting_curves,
    shifting_scores,
    shifting_test,
)

__all__ = [
    "CONTROLS",
    "PUBLISHED_OFFSETS",
    "STATES",
    "Evidence",
    "Hyperplanes",
    "Inserted",
    "carried_marks",
    "contrasting_concepts",
    "control_colour",
    "distance_maps",
    "free_places",
    "gather_evidence",
    "held_out_accuracy",
    "insert_crop",
    "inserted_page",
    "insertion_round",
    "insertion_scores",
    "insertion_table",
    "log_density",
    "mark_reliance",
    "marks_found",
    "most_confused",
    "places_at_random",
    "reached_scores",
    "scaled_crop",
    "shifting_curves",
    "shifting_scores",
    "shifting_test",
    "typical_places",
]
