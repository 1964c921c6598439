"""Gradient methods, Captum's and our own, as explainers.

What they give is one signed value per pixel and channel. A map is the sum of their absolute values over the
channels, scaled to [0, 1]: they say how much a pixel matters, and their signs mix within a few pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import Saliency as CaptumSaliency
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.grad_cam import check_gradient
from gan_lib.core.inputs import as_input, layout_for, weight_of
from gan_lib.core.maps import min_max
from gan_lib.core.masking import filling
from gan_lib.core.options import positive
from gan_lib.core.runtime import image_generators, quiet
from gan_lib.core.targets import resolve_target
from gan_lib.explainers.base import Explainer, Target
from gan_lib.explainers.cams import GradCAM
from gan_lib.explainers.rules import DeepLiftRule, check_rules, guided, ruled

AT_ONCE = 64  # images and steps of a way in one pass


class GradientExplainer(Explainer):
    """Base: a variant overrides :meth:`raw`. Works with frozen parameters, in ``no_grad`` and in any mode."""

    needs_gradients = True

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        """Attributions (B, 3, H, W) of images that require gradients, for classes (B,)."""
        raise NotImplementedError

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K), also of images that Captum gives in another number format or layout."""
        own = images.to(weight_of(self.cnn).dtype)
        made: Tensor = self.cnn(own.contiguous(memory_format=layout_for(self.cnn, own)))
        return made

    def attributions(self, images: Tensor, target: Target = None) -> Tensor:
        """Signed attributions (B, 3, H, W) of images (B, 3, H, W), before they become maps; errors as
        :meth:`attribute`."""
        self._check(images)
        images = as_input(self.cnn, images)
        with evaluation_mode(self.cnn), torch.enable_grad(), quiet():
            with torch.no_grad():
                chosen = resolve_target(self.cnn(images), target)
            check_gradient(self.cnn, images[:1])
            return self.raw(images.detach().requires_grad_(), chosen).detach()

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return min_max(self.attributions(images, target).float().abs().sum(1, keepdim=True))


class Saliency(GradientExplainer):
    """Gradient of the class's logit (Simonyan et al., 2014)."""

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        made: Tensor = CaptumSaliency(self.logits).attribute(images, target=target, abs=False)
        return made


class InputXGradient(GradientExplainer):
    """Gradient of the class's logit, times the image (Shrikumar et al., 2016)."""

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        made: Tensor = CaptumInputXGradient(self.logits).attribute(images, target=target)
        return made


class IntegratedGradients(GradientExplainer):
    """Gradients along the way from a black image (Sundararajan et al., 2017).

    Args:
        cnn: the CNN to be explained.
        steps: of the way.
    """

    def __init__(self, cnn: nn.Module, steps: int = 32) -> None:
        super().__init__(cnn)
        self.steps = steps

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        size = max(len(images), AT_ONCE)
        method = CaptumIntegratedGradients(self.logits)
        made: Tensor = method.attribute(images, target=target, n_steps=self.steps, internal_batch_size=size)
        return made.to(images.dtype)


class NoisyGradient(GradientExplainer):
    """Base: the mean over noisy copies of an image. Noise is drawn for each image, from its content and a
    seed, so that a map is the same alone, in any batch and in any order.

    Args:
        cnn: the CNN to be explained.
        samples: copies.
        deviation: of the noise, in units of the images' range [0, 1].
        seed: of the noise.

    Raises:
        ValueError: no sample.
    """

    def __init__(self, cnn: nn.Module, samples: int = 20, deviation: float = 0.15, seed: int = 0) -> None:
        super().__init__(cnn)
        positive(samples=samples)
        self.samples, self.deviation, self.seed = samples, deviation, seed

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        own = images.detach()
        generators, total = image_generators(own, self.seed), torch.zeros_like(own)
        for _ in range(self.samples):
            noise = torch.stack([torch.randn(own.shape[1:], generator=drawn) for drawn in generators])
            total += self.of_copy(own + self.deviation * noise.to(own), target, generators)
        return total / self.samples

    def of_copy(self, noisy: Tensor, target: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Attributions (B, 3, H, W) of noisy images; further draws come from each image's generator."""
        raise NotImplementedError

    def gradient(self, points: Tensor, target: Tensor) -> Tensor:
        """Gradient (B, 3, H, W) of the classes' logits at points (B, 3, H, W)."""
        made: Tensor = CaptumSaliency(self.logits).attribute(points.requires_grad_(), target, abs=False)
        return made


class SmoothGrad(NoisyGradient):
    """Mean gradient of noisy copies of the image (Smilkov et al., 2017); arguments as of the base."""

    def of_copy(self, noisy: Tensor, target: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return self.gradient(noisy, target)


class GradientShap(NoisyGradient):
    """Expected gradients between the image, with noise, and baselines, a black, a grey and a white image
    (Lundberg & Lee, 2017): ``E[(x' - b) dy_c / dx at b + a (x' - b)]`` over noisy images x', baselines b and
    a in 0..1. Arguments as of the base."""

    def __init__(self, cnn: nn.Module, samples: int = 16, deviation: float = 0.1, seed: int = 0) -> None:
        super().__init__(cnn, samples, deviation, seed)

    def of_copy(self, noisy: Tensor, target: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        greys = torch.stack([torch.randint(3, (1, 1, 1), generator=drawn) / 2 for drawn in generators])
        shares = torch.stack([torch.rand(1, 1, 1, generator=drawn) for drawn in generators])
        change = noisy - greys.to(noisy)  # (B, 3, H, W)
        return change * self.gradient((noisy - (1 - shares.to(noisy)) * change).detach(), target)


class ExpectedGradients(GradientExplainer):
    """Gradients times the difference to a reference, averaged over references and over points on the way to
    each (Erion et al., Nature Machine Intelligence 2021).

        maps = ExpectedGradients(cnn, references=training_images[:50]).attribute(images)

    ``E[(x - x') dy_c / dx at x' + a (x - x')]`` over references x' and a in 0..1. Points are spread evenly
    over the way, and references take turns in an order drawn from the seed, the same for all images.

    What counts is the reference, more than the number of samples: on validation scenes of slim_vgg insertion
    less deletion was highest from the image's own blur, lower from black and from other scenes, while a
    dozen samples were as good as hundreds.

    Args:
        cnn: the CNN to be explained.
        samples: points, one of a reference each.
        references: (R, 3, H, W) in [0, 1], of the images' size, some training images as published; or what
            stands for each image, one of :data:`gan_lib.core.masking.FILLS`.
        seed: of the order and the points.

    Raises:
        ValueError: no sample, or references of another size than the images.
        KeyError: an unknown fill.
    """

    def __init__(
        self, cnn: nn.Module, samples: int = 50, references: Tensor | str = "blur", seed: int = 0
    ) -> None:
        super().__init__(cnn)
        positive(samples=samples)
        self.samples, self.references, self.seed = samples, references, seed

    def ways(self, count: int) -> tuple[Tensor, Tensor]:
        """Of every sample (S,), which of so many references it has, and how far from it it lies, 0..1."""
        generator = torch.Generator().manual_seed(self.seed)
        turns = torch.arange(self.samples)[torch.randperm(self.samples, generator=generator)] % count
        shares = (torch.arange(self.samples) + torch.rand(self.samples, generator=generator)) / self.samples
        return turns, shares

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        own, references = images.detach(), self._references(images.detach())
        turns, shares = self.ways(len(references))
        at_once = max(1, AT_ONCE // max(1, len(images)))
        total = torch.zeros_like(own)
        for turn, share in zip(turns.split(at_once), shares.split(at_once), strict=True):
            reference = references[turn.to(own.device)]
            change = own - reference  # (p, B, 3, H, W)
            way = share.to(own).view(-1, 1, 1, 1, 1)
            points = (reference + way * change).flatten(0, 1).requires_grad_()  # (p B, 3, H, W)
            score = self.logits(points).gather(1, target.repeat(len(turn))[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, points)
            total += (gradient.view_as(change) * change).sum(0)
        return total / self.samples

    def _references(self, images: Tensor) -> Tensor:
        """(R, 1, 3, H, W) for all images, or (1, B, 3, H, W) of each its own."""
        if isinstance(self.references, str):
            return filling(images, self.references)[None]
        given, wanted = self.references, tuple(images.shape[1:])
        if given.ndim != 4 or not len(given) or tuple(given.shape[1:]) != wanted:
            told = ", ".join(map(str, wanted))
            raise ValueError(f"references are (R, {told}), as the images are, not {tuple(given.shape)}")
        return given.to(images)[:, None]


class DeepLift(GradientExplainer):
    """Differences to a black image, carried back by the rescale rule (Shrikumar et al., 2017)."""

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        made: Tensor = DeepLiftRule(self.cnn).attribute(images, target)
        return made


class GuidedBackprop(GradientExplainer):
    """Gradients that pass a ReLU only where they are positive (Springenberg et al., 2015)."""

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        check_rules(self.cnn, "guided back-propagation")
        with ruled(guided):
            logits = self.cnn(images)
        return torch.autograd.grad(logits.gather(1, target[:, None]).sum(), images)[0]


class GuidedGradCAM(GuidedBackprop):
    """Guided back-propagation times Grad-CAM (Selvaraju et al., 2017).

    Args:
        cnn: the CNN to be explained.
        layer: of Grad-CAM; by default the last convolution.
    """

    def __init__(self, cnn: nn.Module, layer: str | None = None) -> None:
        super().__init__(cnn)
        self.grad_cam = GradCAM(cnn, layer)

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        gradients = super().raw(images, target)
        return gradients * self.grad_cam.raw(images, target).to(gradients)
