"""The front door: a CNN, its images, what explains it and what that is worth, in a line each.

    cnn = gan_lib.load_cnn("slim_vgg")
    images = gan_lib.read_images("photos/*.png", cnn)
    found = gan_lib.explainer("contrastive-lsft", cnn).explain(images)

Images are (N, 3, H, W) in [0, 1]; ``targets`` are ``None`` for the predicted classes, one, or (N,).
"""

from gan_lib.api.cnns import image_size, load_cnn, read_images, shipped
from gan_lib.api.explaining import compare, explain, explainer, sanity, train_explainer
from gan_lib.api.reports import BESIDE, report
from gan_lib.classifiers import Classifier
from gan_lib.classifiers.forms import wrap
from gan_lib.explainers import METHODS, Explainer, UniversalExplainer
from gan_lib.reporting.about import is_said

__all__ = [
    "BESIDE",
    "METHODS",
    "Classifier",
    "Explainer",
    "UniversalExplainer",
    "compare",
    "explain",
    "explainer",
    "image_size",
    "is_said",
    "load_cnn",
    "read_images",
    "report",
    "sanity",
    "shipped",
    "train_explainer",
    "wrap",
]
