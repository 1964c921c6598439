"""All methods by name, and how one of your own gets a name.

    class Brightness(Explainer):
        def maps(self, images, target):
            return min_max(images.mean(1, keepdim=True))

    METHODS.register("brightness", Method(Brightness, kind="control"))    # it does not look at the CNN

From then on ``brightness`` is a method like any other: in :func:`make_explainer`, ``gan-lib explain``,
recipes, the explorer and comparisons.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from gan_lib.core.registry import Registry
from gan_lib.explainers.base import Explainer
from gan_lib.explainers.cams import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, XGradCAM
from gan_lib.explainers.controls import Edges, RandomMap
from gan_lib.explainers.evidence import EvidenceProjection
from gan_lib.explainers.gan import GeneratorExplainer
from gan_lib.explainers.gradients import (
    DeepLift,
    ExpectedGradients,
    GradientShap,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from gan_lib.explainers.inversion import GuidedFeatureInversion
from gan_lib.explainers.lrp import LRP
from gan_lib.explainers.perturbations import RISE, FeatureAblation, Occlusion

Kind = Literal["baseline", "control", "trained"]


@dataclass(frozen=True)
class Method:
    """How an explainer is made.

    Attributes:
        make: from a CNN, and options by name, to the explainer; an :class:`Explainer` class will do.
        kind: a ``baseline`` learns nothing, a ``control`` does not look at the CNN, what is ``trained`` takes
            ``pretrained``, the folder in which its own folder lies.
        travels: what is trained explains any CNN, and not only the one that it was trained on.
    """

    make: Callable[..., Explainer]
    kind: Kind = "baseline"
    travels: bool = False

    def takes(self, option: str) -> bool:
        """Whether there is such an option, for instance ``layer``."""
        return option in inspect.signature(self.make).parameters


METHODS: Registry[Method] = Registry("method")


def methods_of(*kinds: Kind) -> list[str]:
    """Names of all methods of some kinds, in the order in which they were registered."""
    return [name for name, method in METHODS.items() if method.kind in kinds]


def make_explainer(
    name: str, cnn: nn.Module, pretrained: str | Path | None = None, **options: Any
) -> Explainer:
    """An explainer by name.

        maps = make_explainer("integrated_gradients", cnn, steps=64).attribute(images, target=3)
        gan = make_explainer("contrastive_lsft", cnn, pretrained="data/pretrained/slim_vgg")

    Args:
        name: one of :data:`METHODS`; hyphens and capitals do not matter.
        cnn: the CNN to be explained, from images in [0, 1] to logits.
        pretrained: for what has been trained, the folder in which its own folder lies.
        options: of the method (:attr:`Method.make`).

    Raises:
        KeyError: an unknown method; near misses are listed.
        ValueError: a trained one without ``pretrained``, or one that does not fit the CNN.
        FileNotFoundError: no such generator in the folder.
    """
    method = METHODS[name]
    given = options | ({"pretrained": pretrained} if method.kind == "trained" else {})
    explainer = method.make(cnn, **given)
    explainer.name = METHODS.name(name)
    return explainer


def _pretrained(name: str, cnn: nn.Module, pretrained: str | Path | None) -> Explainer:
    if pretrained is None:
        raise ValueError(f"{name} has been trained: say in which folder, pretrained='data/pretrained/...'")
    return GeneratorExplainer.from_pretrained(Path(pretrained) / name.replace("_", "-"), cnn)


_BASELINES: dict[str, Callable[..., Explainer]] = {
    "saliency": Saliency,
    "input_x_gradient": InputXGradient,
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "deep_lift": DeepLift,
    "gradient_shap": GradientShap,
    "expected_gradients": ExpectedGradients,
    "lrp": LRP,
    "guided_backprop": GuidedBackprop,
    "grad_cam": GradCAM,
    "evidence_projection": EvidenceProjection,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "layer_cam": LayerCAM,
    "xgrad_cam": XGradCAM,
    "eigen_cam": EigenCAM,
    "score_cam": ScoreCAM,
    "guided_grad_cam": GuidedGradCAM,
    "occlusion": Occlusion,
    "feature_ablation": FeatureAblation,
    "rise": RISE,
    "guided_feature_inversion": GuidedFeatureInversion,
    "guided_feature_inversion_step_1": partial(GuidedFeatureInversion, discriminative=False),
}
for _name, _make in _BASELINES.items():
    METHODS.register(_name, Method(_make))
METHODS.register("edges", Method(Edges, "control"))
METHODS.register("random", Method(RandomMap, "control"))
for _name in ("lsft", "gsft", "contrastive_lsft", "contrastive_gsft", "universal_lsft", "universal_gsft"):
    travels = _name.startswith("universal")
    METHODS.register(_name, Method(partial(_pretrained, _name), "trained", travels))
