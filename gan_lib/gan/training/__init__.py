"""The two training loops, supervised by Grad-CAM and contrastive, on one machinery."""

from gan_lib.gan.training.contrastive import ContrastiveOptions, stability_table, train_contrastive
from gan_lib.gan.training.loop import Schedule
from gan_lib.gan.training.supervised import TrainingOptions, train_supervised
from gan_lib.gan.training.universal import Member, UniversalOptions, train_universal

__all__ = [
    "ContrastiveOptions",
    "Member",
    "Schedule",
    "TrainingOptions",
    "UniversalOptions",
    "stability_table",
    "train_contrastive",
    "train_supervised",
    "train_universal",
]
