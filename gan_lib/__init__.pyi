"""What is at hand as ``gan_lib.NAME``: read by ``__init__.py``, type checkers and editors."""

from .api import compare, explainer, load_cnn, read_images, sanity, train_explainer, wrap
from .classifiers import Classifier, load_classifier, make_classifier, save_classifier
from .concepts import Concepts
from .core.grad_cam import grad_cam
from .core.masking import FILLS, masked_images
from .data import DATA_SETS, ImageData, ImageSplit, digits_in_scenes, image_folder
from .explainers import (
    METHODS,
    ContrastiveExplainer,
    DeepLift,
    Edges,
    Explainer,
    FeatureAblation,
    GANExplainer,
    GeneratorExplainer,
    GradCAM,
    GradientShap,
    GuidedBackprop,
    GuidedFeatureInversion,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    Method,
    Occlusion,
    RandomMap,
    Saliency,
    SmoothGrad,
    make_explainer,
)
from .explainers.explanation import Explanation
from .explainers.plug_and_play import CNNExplainer
from .figures import overlay
from .gan.conditions import CONDITIONS
from .gan.generators import GENERATORS
from .metrics import MEASURES, Measure, average_drop, increase_in_confidence, judge, summarise
from .workbench import EXPERIMENTS, SWEEPS, Recipe, Workbench

__version__: str
__all__: list[str]
