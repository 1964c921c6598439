"""All explainers by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from gan_lib.explainers.base import Explainer
from gan_lib.explainers.baselines import GradCAM
from gan_lib.explainers.controls import Edges, RandomMap
from gan_lib.explainers.gan import GeneratorExplainer
from gan_lib.explainers.gradients import (
    DeepLift,
    GradientShap,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from gan_lib.explainers.inversion import GuidedFeatureInversion
from gan_lib.explainers.perturbations import FeatureAblation, Occlusion

BASELINES: dict[str, Callable[..., Explainer]] = {
    "saliency": Saliency,
    "input_x_gradient": InputXGradient,
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "deep_lift": DeepLift,
    "gradient_shap": GradientShap,
    "guided_backprop": GuidedBackprop,
    "grad_cam": GradCAM,
    "guided_grad_cam": GuidedGradCAM,
    "occlusion": Occlusion,
    "feature_ablation": FeatureAblation,
    "guided_feature_inversion": GuidedFeatureInversion,
    "guided_feature_inversion_step_1": partial(GuidedFeatureInversion, discriminative=False),
}
CONTROLS: dict[str, Callable[..., Explainer]] = {"edges": Edges, "random": RandomMap}
TRAINED = ("lsft", "gsft", "contrastive_lsft", "contrastive_gsft")


def method_name(name: str) -> str:
    """A method's name as this module spells it; hyphens stand for underscores.

    Raises:
        KeyError: an unknown method; near misses are listed.
    """
    known = [*BASELINES, *CONTROLS, *TRAINED]
    spelled = name.strip().lower().replace("-", "_")
    if spelled not in known:
        near = difflib.get_close_matches(spelled, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise KeyError(f"unknown method {name!r}; {hint}")
    return spelled


def make_explainer(
    name: str, cnn: nn.Module, pretrained: str | Path | None = None, **options: Any
) -> Explainer:
    """An explainer by name.

        maps = make_explainer("integrated_gradients", cnn, steps=64).attribute(images, target=3)
        gan = make_explainer("contrastive_lsft", cnn, pretrained="data/pretrained/slim_vgg")

    Args:
        name: of a baseline, a control or a trained generator: the keys of :data:`BASELINES` and
            :data:`CONTROLS`, and :data:`TRAINED`. Hyphens stand for underscores.
        cnn: the CNN to be explained, from images in [0, 1] to logits.
        pretrained: for a trained generator, the folder in which its own folder lies.
        options: arguments of the explainer's class.

    Raises:
        KeyError: an unknown method; near misses are listed.
        ValueError: a trained generator without ``pretrained``, or one that does not fit the CNN.
        FileNotFoundError: no such generator in the folder.
    """
    method = method_name(name)
    if method not in TRAINED:
        return (BASELINES | CONTROLS)[method](cnn, **options)
    if pretrained is None:
        raise ValueError(f"{name} has been trained: say in which folder, pretrained='data/pretrained/...'")
    return GeneratorExplainer.from_pretrained(Path(pretrained) / method.replace("_", "-"), cnn)
