"""Conditions that mean the same in every CNN: where its layers speak for a class.

Channels of one CNN mean nothing to another. But every CNN has evidence for a class at the places of its last
features, and of every layer it can be asked how its channels go with that evidence. The answers are a handful
of maps a layer, at the layer's own resolution, whatever the number, the order and the scale of its channels:
a generator that reads them can be given a CNN that it has never met.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.core.capture import Capture, evaluation_mode, find_layer, frozen, replaced_activation, spread
from gan_lib.core.grad_cam import check_gradient, default_layer, layers_with_places, layouts_of
from gan_lib.core.inputs import weight_of
from gan_lib.core.options import positive
from gan_lib.core.outputs import EXCLUSIVE, meaning_of
from gan_lib.core.targets import Target, resolve_target
from gan_lib.gan.conditions.features import FeatureMaker, Features, noise, of_classes, pooled

FINEST = 4  # activations are read at an image's side over this, or at their own size where that is smaller
TINY = 1e-6


def standardised(values: Tensor) -> Tensor:
    """Values (..., N) less their mean, over their deviation along the last dimension; constant ones are 0."""
    centred = values - values.mean(-1, keepdim=True)
    deviation = centred.square().mean(-1, keepdim=True).sqrt()
    size = values.abs().amax(-1, keepdim=True)
    return torch.where(deviation > TINY * size, centred / deviation.clamp(min=1e-30), 0.0)


@cache
def pooling(size: int, coarser: int) -> Tensor:
    """What each of so many places in a row gives to each of fewer, as adaptive averages do: (size, coarser),
    float32."""
    with torch.inference_mode(False):
        return F.adaptive_avg_pool1d(torch.eye(size, dtype=torch.float32, device="cpu"), coarser)


def evidence_maps(activation: Tensor, evidence: Tensor, salience: bool = False) -> Tensor:
    """How an activation goes with evidence, place by place.

    With the channels standardised within the image, z_c, and the evidence e likewise, one map for each kind
    of evidence: the projection ``sum_c cov(z_c, e) z_c``, one step of partial least squares, standardised
    and multiplied with its own correlation to e.

    Args:
        activation: (B, C, H, W).
        evidence: (B, E, h, w) of another size, higher where more speaks for the class.
        salience: also what a layer responds to whatever the class: the cosine to the mean feature where the
            evidence is, the mean and the norm of z. Generators that read these follow the picture.

    Returns:
        (B, E, H, W), or (B, E + 3, H, W) with ``salience``, which no permutation and no positive scale or
        shift of the channels changes.
    """
    size, places = _places(activation), _places(evidence)
    coarser = (min(size[0], places[0]), min(size[1], places[1]))
    values, known = activation.float().flatten(2), evidence.float()
    mean = values.mean(2, keepdim=True)  # (B, C, 1)
    centred = values - mean  # (B, C, N)
    deviation = centred.square().mean(2, keepdim=True).sqrt()
    scale = torch.where(deviation > TINY * mean.abs(), 1 / deviation.clamp(min=1e-30), 0.0)  # (B, C, 1)
    if places != coarser:
        known = F.adaptive_avg_pool2d(known, coarser)
    known = standardised(known.flatten(2))  # (B, E, n)
    # Of z = scale * centred, averaged to n places: not one of the many channels is scaled or averaged, since
    # the scale can go to the weights, twice, and averages to the few maps before and behind them.
    rows, columns = (pooling(*own).to(known) for own in zip(size, coarser, strict=True))
    fine = (rows @ known.unflatten(2, coarser) @ columns.mT).flatten(2)  # (B, E, N)
    weights = fine @ centred.mT * scale.mT / known.shape[2] * scale.mT  # (B, E, C); a square overflows
    projections = weights @ centred  # (B, E, N)
    coarse = F.adaptive_avg_pool2d(projections.unflatten(2, size), coarser).flatten(2)  # (B, E, n)
    correlation = (standardised(coarse) * known).mean(2, keepdim=True)  # (B, E, 1)
    projections = standardised(projections) * correlation
    if not salience:
        return projections.unflatten(2, size)
    channels = scale * centred  # (B, C, N)
    coarse = F.adaptive_avg_pool2d(channels.unflatten(2, size), coarser).flatten(2)  # (B, C, n)
    where = F.softmax(2 * known[:, -1:], dim=2)  # (B, 1, n)
    feature = F.normalize(where @ coarse.mT, dim=2)  # (B, 1, C)
    norm = channels.square().sum(1, keepdim=True).sqrt()  # (B, 1, N)
    cosine = feature @ channels / norm.clamp(min=TINY)
    strength = norm / channels.shape[1] ** 0.5 - 1
    maps = [projections, cosine, channels.mean(1, keepdim=True), strength]
    return torch.cat(maps, dim=1).unflatten(2, size)


def evidence_channels(count: int, salience: bool = False) -> tuple[int, ...]:
    """The channels of the conditions of ``count`` layers, and of the evidence."""
    return (2 + 3 * salience,) * count + (3,)


class EvidenceMaker(FeatureMaker):
    """Evidence conditions for batches of images, from one forward pass over the CNN.

        maker = EvidenceMaker(cnn, (224, 224), count=4)
        maker(images, target=3).activations    # of 4 layers (B, 2, H_l, W_l), and the evidence (B, 3, h, w)

    The evidence at a place is the class's logit there, and what the place does to the class's log-odds: by
    how much its logit exceeds those of its rivals, each as likely as the CNN thinks it in this image. A
    rectification behind the last layer, as SqueezeNet's, is not looked at.

    Any CNN gives the same number of conditions with the same channels; one with fewer layers gives some of
    them twice. Where the CNN's last layer is not a linear one on pooled features, the evidence at a place is
    the first-order effect of its features, from a backward pass through what follows them.

    Args:
        cnn: from images in [0, 1] to logits (B, K).
        image_size: height and width of an example; other sizes can be given afterwards.
        count: number n of layers, spread over the depth.
        layers: their names, instead.
        fold: as for :class:`FeatureMaker`.
        salience: as for :func:`evidence_maps`.

    Raises:
        ValueError: no layer has places that the scores depend on.
    """

    reads = "evidence"

    def __init__(
        self,
        cnn: nn.Module,
        image_size: tuple[int, int],
        count: int = 4,
        layers: Sequence[str] | None = None,
        fold: bool | None = None,
        salience: bool = False,
    ) -> None:
        self.salience = salience
        if fold is None and not self._ends_in_convolution(cnn, image_size):
            fold = False  # a traced copy hides the outputs of blocks
        super().__init__(cnn, image_size, count, layers, fold)

    @staticmethod
    def _ends_in_convolution(cnn: nn.Module, size: tuple[int, int]) -> bool:
        last = default_layer(cnn, noise(size).to(weight_of(cnn)))
        return isinstance(find_layer(cnn, last)[0], nn.Conv2d)

    def on(self, cnn: nn.Module) -> EvidenceMaker:
        """The same conditions of another CNN with the same layers."""
        return type(self)(cnn, self.image_size, **self.settings())

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **({"salience": True} if self.salience else {})}

    def _find_head(self, example: Tensor) -> str:
        try:
            return super()._find_head(example)
        except ValueError:  # there is none: a backward pass stands in
            return ""

    def _choose(self, example: Tensor, count: int) -> list[str]:
        layers = [own for own in layers_with_places(self.net, example) if own != self.head]
        behind = layers[1:] or layers
        if not behind:
            raise ValueError("no layer of this CNN but its last one has places, so none can be conditions")
        if len(behind) >= count:
            return spread(layers, count + 1)[1:] if len(layers) > count else behind
        return [behind[place * len(behind) // count] for place in range(count)]

    def _find_last(self, example: Tensor) -> str:
        last = default_layer(self.net, example)
        is_first = isinstance(find_layer(self.net, last)[0], nn.Conv2d)
        return super()._find_last(example) if self.head and (is_first or last == self.head) else last

    def _sees_pooled(self, example: Tensor) -> bool:
        is_first = isinstance(find_layer(self.net, self.layers[-1])[0], nn.Conv2d)
        return bool(self.head) and is_first and super()._sees_pooled(example)

    def __call__(self, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Features:
        """Features of images (B, 3, H, W); ``target`` is ``None`` for the predicted class.

        Raises:
            ValueError: a wrong number of targets.
            RuntimeError: under ``torch.inference_mode``, where a backward pass is needed.
        """
        if self.has_places:
            return super().__call__(images, target)
        if torch.is_inference_mode_enabled():
            raise RuntimeError("this CNN's evidence needs gradients, which torch.inference_mode forbids")
        given, leaf = self._given(images), torch.empty(0)

        def begin(activation: Tensor) -> Tensor:  # the graph begins here: what comes before is not needed
            nonlocal leaf
            leaf = activation.detach().requires_grad_()
            return leaf

        net, names = self.net, [*dict.fromkeys(self.layers)]
        with torch.enable_grad(), frozen(net), evaluation_mode(net), Capture(net, names) as captured:
            with replaced_activation(net, self.last, begin):
                logits = net(given)  # (B, K)
            explained = resolve_target(logits, target)  # (B,)
            scores = torch.stack([of_classes(logits, explained), self._odds(logits, explained)])  # (2, B)
            found = [
                torch.autograd.grad(score.sum(), leaf, retain_graph=True, allow_unused=True)[0]
                for score in (scores if scores.requires_grad else ())
            ]
        gradients = [own for own in found if own is not None]
        if len(gradients) < len(scores):
            check_gradient(net, given[:1])
            raise ValueError(f"the scores do not depend on layer {self.last!r}, the last with places")
        kept = {name: captured[name].detach() for name in names} | {self.last: leaf.detach()}
        layouts = layouts_of(net, given, kept)
        last = layouts[self.last]
        features = last.places(kept[self.last])  # (B, C, h, w)
        effects = [(last.places(gradient) * features).sum(1) for gradient in gradients]  # (B, h, w) each
        evidence = torch.stack([first_order(*pair) for pair in zip(scores.detach(), effects, strict=True)], 1)
        activations = [layouts[name].places(kept[name]) for name in self.layers]
        size = (images.shape[-2], images.shape[-1])
        conditions = self.conditions(activations, evidence, size)
        return Features(conditions, logits.detach(), pooled(features), explained)

    @property
    def seen(self) -> str:
        """The input of the CNN's last layer, or the last features where these are not what it sees."""
        return super().seen if self.has_places else self.last

    def embedding(self, seen: Tensor, given: Tensor) -> Tensor:
        """What the CNN's last layer sees of images ``given``, or their last features' mean: (B, D)."""
        if self.has_places:
            return super().embedding(seen, given)
        return pooled(layouts_of(self.net, given, {self.last: seen})[self.last].places(seen))

    def evidence(self, features: Tensor, explained: Tensor, logits: Tensor) -> Tensor:
        """The class's logit and its log-odds (B, 2, h, w), were the last features (B, C, h, w) everywhere as
        they are at a place; the log-odds to the first order."""
        weights = F.one_hot(explained, logits.shape[1]).to(logits)[:, None]  # (B, 1, K)
        if meaning_of(self.cnn) in EXCLUSIVE:
            rivals = logits.scatter(1, explained[:, None], -torch.inf).softmax(1)  # (B, K)
            weights = torch.cat([weights, weights - rivals[:, None]], 1)  # (B, 2, K)
        found = self.weighed_logits(features, weights)
        own, lead = found[:, 0], found[:, -1]  # (B, h, w) each
        odds = self._odds(logits, explained)  # (B,)
        return torch.stack([own, odds[:, None, None] + lead - lead.mean((1, 2), keepdim=True)], dim=1)

    def _odds(self, logits: Tensor, explained: Tensor) -> Tensor:
        """The log-odds (B,) of classes (B,) by logits (B, K): ``log p / (1 - p)``."""
        own = of_classes(logits, explained)
        if meaning_of(self.cnn) not in EXCLUSIVE:
            return own
        if logits.shape[1] == 1:
            raise ValueError("a CNN of one output: gan_lib.wrap(model, output=...) says what it means")
        return own - logits.scatter(1, explained[:, None], -torch.inf).logsumexp(1)

    def conditions(
        self, activations: Sequence[Tensor], evidence: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        finest = (size[0] // FINEST, size[1] // FINEST)
        maps = [evidence_maps(_at_most(own, finest), evidence, self.salience) for own in activations]
        shape = standardised(evidence.float().flatten(2)).unflatten(2, evidence.shape[-2:])  # (B, 2, h, w)
        share = evidence[:, -1:].float().sigmoid()  # (B, 1, h, w), against the rivals, were all as the place
        return (*maps, torch.cat([shape, share], 1))


class EvidenceMakers:
    """Evidence conditions of one CNN for images of any size: how its layers are read is found out at the
    first batch of a size.

        makers = EvidenceMakers(cnn, count=4)
        makers(images, target=3).activations

    Arguments as for :class:`EvidenceMaker`.
    """

    def __init__(self, cnn: nn.Module, count: int = 4, salience: bool = False) -> None:
        positive(count=count)
        self.cnn, self.count, self.salience = cnn, count, salience
        self._made: dict[tuple[int, int], EvidenceMaker] = {}

    def of(self, size: tuple[int, int]) -> EvidenceMaker:
        """For images of a height and width."""
        if size not in self._made:  # the last one only: each holds a copy of the CNN
            self._made = {size: EvidenceMaker(self.cnn, size, self.count, salience=self.salience)}
        return self._made[size]

    def __call__(self, images: Tensor, target: Target = None) -> Features:
        """Features of images (B, 3, H, W), as :class:`EvidenceMaker` gives them."""
        return self.of((images.shape[-2], images.shape[-1]))(images, target)


def first_order(scores: Tensor, effects: Tensor) -> Tensor:
    """Scores (B, h, w) if the features of one place were everywhere, to the first order.

    Of scores (B,) and the effects (B, h, w) of the features of n places on them,
    ``score + n (effect - mean effect)``.
    """
    count, mean = effects.shape[1:].numel(), effects.mean((1, 2), keepdim=True)
    return scores[:, None, None] + count * (effects - mean)


def _places(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]


def _at_most(activation: Tensor, size: tuple[int, int]) -> Tensor:
    """An activation (B, C, H, W), pooled to a height and a width where its own are larger."""
    own = _places(activation)
    wanted = (min(own[0], size[0]), min(own[1], size[1]))
    return activation if own == wanted else F.adaptive_avg_pool2d(activation, wanted)
