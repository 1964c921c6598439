"""The two steps of guided feature inversion on a CNN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_lib.core.capture import Capture, evaluation_mode
from gan_lib.core.outputs import EXCLUSIVE, meaning_of
from gan_lib.core.targets import Target, resolve_target
from gan_lib.inversion.mask import CaptureUntil, blurred, has_places, inversion_layers
from gan_lib.inversion.optimise import (
    STEP_1,
    STEP_2,
    Inversion,
    InversionOptions,
    inside_and_outside,
    optimise,
)

START = 0.1  # of every weight


@dataclass(frozen=True)
class Base:
    """What stays the same over all iterations, computed once."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    hidden: Tensor  # (B, 3, H, W), what is seen where the mask is 0
    activations: Tensor  # (B, C, h, w) of the layer that masks are made of
    inverted: Tensor  # (B, ...) activation that is to be preserved

    @property
    def size(self) -> tuple[int, int]:
        """H and W of the images."""
        return self.images.shape[-2], self.images.shape[-1]


class GuidedInversion:
    """Guided feature inversion of images, in batches.

        inversion = GuidedInversion(cnn)
        base = inversion.base(images)
        saliency = inversion.saliency(base)                       # step 1
        masks = inversion.discriminate(base, saliency, target=3)  # step 2
        masks.masks                                               # (B, 1, H, W) in [0, 1]

    The CNN runs in eval mode; its modes, gradients and hooks stay as they were.

    Args:
        cnn: from images in [0, 1] to logits (B, K).
        layer: whose channels masks are made of; by default see :func:`inversion_layers`.
        inverted_layer: whose activation step 1 preserves. Where one of the two is named, it is both.
        sigma: of the blur, in pixels; by default 11 for a longer side of 224, and in proportion.
    """

    def __init__(
        self,
        cnn: nn.Module,
        layer: str | None = None,
        inverted_layer: str | None = None,
        sigma: float | None = None,
    ) -> None:
        self.cnn, self.layer, self.inverted_layer, self.sigma = cnn, layer, inverted_layer, sigma
        self._found: dict[tuple[int, int], tuple[str, str]] = {}

    def base(self, images: Tensor, hidden: Tensor | None = None) -> Base:
        """Activations of images (B, 3, H, W) in [0, 1], and what hides them, by default their blur.

        Raises:
            KeyError: an unknown layer.
            RuntimeError: a layer that runs several times without call number, or ``torch.inference_mode``.
            ValueError: a layer without places, or images that the CNN cannot run on.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError("guided feature inversion needs gradients, which torch.inference_mode forbids")
        layer, inverted = self.layers(images)
        hidden = blurred(images, self.sigma) if hidden is None else hidden
        wanted = list(dict.fromkeys([layer, inverted]))
        # The whole pass, once: it tells of a layer that runs twice.
        with torch.no_grad(), evaluation_mode(self.cnn), Capture(self.cnn, wanted) as captured:
            self.cnn(images)
        activations = captured[layer]
        if not has_places(activations, images):
            raise ValueError(
                f"layer {layer!r} gives {tuple(activations.shape)} for images of "
                f"{images.shape[-2]} x {images.shape[-1]}: a mask needs (B, C, h, w) with places"
            )
        return Base(images, hidden, activations.float(), captured[inverted].float())

    def layers(self, images: Tensor) -> tuple[str, str]:
        """The layer that masks are made of and the one that is preserved; ``ValueError`` as :meth:`base`."""
        named = self.layer or self.inverted_layer
        if named:
            return self.layer or named, self.inverted_layer or named
        size = (images.shape[-2], images.shape[-1])
        if size not in self._found:
            try:
                self._found[size] = inversion_layers(self.cnn, images[:1])
            except RuntimeError as error:
                raise ValueError(
                    f"the CNN does not run on images of {size[0]} x {size[1]}: {error}"
                ) from error
        return self._found[size]

    def saliency(
        self, base: Base, options: InversionOptions = STEP_1, start: Tensor | None = None
    ) -> Inversion:
        """Step 1: what of the image is needed for the layer's activation (equations 2 to 5).

        Minimises ``||f(x m + p (1 - m)) - f(x)||^2 + sparsity * sum(w)``.

        ``start`` are weights (B, C), by default 0.1 each.
        """
        _, layer = self.layers(base.images)
        first = base.activations.new_full(base.activations.shape[:2], START) if start is None else start
        captured = CaptureUntil(self.cnn, [layer])

        def distance(masks: Tensor) -> Tensor:
            foreground, _ = inside_and_outside(base.images, base.hidden, masks)
            captured.run(foreground)
            return (captured[layer].float() - base.inverted).flatten(1).square().sum(1)

        with torch.enable_grad(), evaluation_mode(self.cnn):
            return optimise(distance, first, base.activations, base.size, options)

    def discriminate(
        self,
        base: Base,
        saliency: Inversion,
        target: Target = None,
        options: InversionOptions = STEP_2,
    ) -> Inversion:
        """Step 2: what of the image speaks for a class (equations 6 and 7).

        Minimises ``f_c(x (1 - m) + p m) - f_c(x m + p (1 - m)) + sparsity * sum(w)``, with the logit f of the
        class, as published, or its log-odds, by default (``options.score``), from step 1's weights on; by
        default these times :meth:`evidence` (``options.start``), or themselves where no channel has any. The
        target is ``None`` for the predicted class, one class, or one per image.

        Raises:
            ValueError: a wrong number of targets.
            IndexError: a class that the CNN does not have.
        """
        with torch.no_grad(), evaluation_mode(self.cnn):
            classes = resolve_target(self.cnn(base.images), target)

        def contrast(masks: Tensor) -> Tensor:
            logits = self.cnn(
                torch.cat(inside_and_outside(base.images, base.hidden, masks))
            ).float()  # (2B, K)
            inside, outside = class_scores(self.cnn, logits, classes.repeat(2), options.score).chunk(2)
            return outside - inside  # (B,)

        first = saliency.weights
        if options.start == "evidence":
            speaking = first * self.evidence(base, classes, options.score)  # (B, C)
            first = speaking.where(speaking.any(1, keepdim=True), first)
        with torch.enable_grad(), evaluation_mode(self.cnn):
            return optimise(contrast, first, base.activations, base.size, options)

    def evidence(self, base: Base, classes: Tensor, score: str = "log_odds") -> Tensor:
        """How much channels of the mask's layer speak for classes (B,): (B, C), 1 for the strongest of each
        image, 0 for what speaks against.

        The gradient of the class's score in the layer's activations, averaged over the places: Grad-CAM's
        weights (arXiv 1610.02391, equation 1).
        """
        layer = self.layers(base.images)[0]
        given = base.images.detach().clone().requires_grad_()
        with torch.enable_grad(), evaluation_mode(self.cnn), Capture(self.cnn, [layer]) as captured:
            scores = class_scores(self.cnn, self.cnn(given).float(), classes, score)  # (B,)
            (gradient,) = torch.autograd.grad(scores.sum(), captured[layer])  # (B, C, h, w)
        weights = gradient.float().mean((2, 3)).clamp(min=0)  # (B, C)
        return weights / weights.amax(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

    def masks(self, images: Tensor, target: Target = None, second: InversionOptions = STEP_2) -> Tensor:
        """Both steps: masks (B, 1, H, W) of images (B, 3, H, W) for a class, step 1 as published."""
        base = self.base(images)
        return self.discriminate(base, self.saliency(base), target, second).masks


def class_scores(cnn: nn.Module, logits: Tensor, classes: Tensor, score: str) -> Tensor:
    """What speaks for classes (B,), of logits (B, K): their ``logit``, or ``log_odds`` against all others.

    Log-odds are ``log p - log(1 - p)`` of mutually exclusive classes; where the outputs mean something else,
    logits are that already.
    """
    own = logits.gather(1, classes[:, None])  # (B, 1)
    if score == "logit" or meaning_of(cnn) not in EXCLUSIVE:
        return own[:, 0]
    rest = logits.scatter(1, classes[:, None], -torch.inf).logsumexp(1)  # (B,)
    return own[:, 0] - rest
