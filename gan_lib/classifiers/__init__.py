"""CNNs by name, wrapped with their normalisation; training, saving and predictions."""

from gan_lib.classifiers.copies import folded
from gan_lib.classifiers.files import load_classifier, save_classifier
from gan_lib.classifiers.fit import FitOptions, accuracy, fit, predictions
from gan_lib.classifiers.randomise import lent_weights, randomised, relabelled
from gan_lib.classifiers.shortened import Shortened, shortened
from gan_lib.classifiers.wrap import Classifier
from gan_lib.classifiers.zoo import classifier_names, is_small, make_classifier

__all__ = [
    "Classifier",
    "FitOptions",
    "Shortened",
    "accuracy",
    "classifier_names",
    "fit",
    "folded",
    "is_small",
    "lent_weights",
    "load_classifier",
    "make_classifier",
    "predictions",
    "randomised",
    "relabelled",
    "save_classifier",
    "shortened",
]
