"""Conditions without any backward pass: activations of several layers, and the evidence for a class.

The contrastive variant needs no Grad-CAM. The generator sees the CNN's activations at ``n`` layers
spread over the depth, and one condition more by which a class is asked for: that class's row of the
CNN's own last layer, applied to the last features, position by position.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.classifiers import folded
from gan_lib.core.capture import (
    INPUT,
    Capture,
    evaluation_mode,
    find_layer,
    last_places,
    layers_in_order,
    spread,
)
from gan_lib.core.inputs import as_input, weight_of
from gan_lib.core.options import positive
from gan_lib.core.outputs import EXCLUSIVE, SINGLE, Meaning, meaning_of, scores_of
from gan_lib.core.targets import resolve_target


@dataclass(frozen=True)
class Features:
    """What one forward pass over a batch gives.

    Attributes:
        activations: n + 1 conditions: per layer (B, C_l, H_l, W_l) in the order of depth, then the evidence
            for the explained class (:meth:`FeatureMaker.evidence`).
        logits: (B, K).
        embedding: (B, D), what the CNN's last layer sees.
        explained: (B,) the class that is asked for.
    """

    activations: tuple[Tensor, ...]
    logits: Tensor
    embedding: Tensor
    explained: Tensor


class FeatureMaker:
    """Feature conditions for batches of images, from one forward pass over the CNN.

        maker = FeatureMaker(cnn, (64, 64), count=4)
        features = maker(images, target=3)
        features.activations    # 4 layers' activations and the evidence for class 3

    Works with any CNN that ends in a linear layer or a 1x1 convolution with one output per class. It runs a
    copy with batch normalisation folded in, which follows the CNN's weights
    (:func:`gan_lib.classifiers.folded`).

    Args:
        cnn: from images in [0, 1] to logits (B, K).
        image_size: height and width of an example; other sizes can be given afterwards.
        count: number n of layers; a CNN with fewer gives as many as it has, and a warning says so.
        layers: their names; by default ``count`` convolutions spread over the depth
            (:func:`gan_lib.core.capture.spread`) behind the first, which sees little more than the image.
        fold: run the folded copy; by default wherever it can be made.

    Raises:
        ValueError: no layer, no last layer with one output per class, or
            ``fold=True`` for a CNN that cannot be folded.
    """

    reads = "activations"  # in recipes and files

    def __init__(
        self,
        cnn: nn.Module,
        image_size: tuple[int, int],
        count: int = 4,
        layers: Sequence[str] | None = None,
        fold: bool | None = None,
    ) -> None:
        positive(count=count)
        example = noise(image_size).to(weight_of(cnn))
        self.cnn, self.image_size = cnn, image_size
        copied = None if fold is False else folded(cnn, image_size)
        if fold and copied is None:
            raise ValueError("batch normalisation cannot be folded: torch.fx cannot trace the CNN")
        self.fold, self.net = copied is not None, copied or cnn
        self.scale = 1.0  # of the logits over what the last layer gives
        self.head = self._find_head(example)
        self.layers = list(self._choose(example, count) if layers is None else layers)
        self.last = self._find_last(example)
        self.has_places = self._sees_pooled(example)
        self.channels = tuple(int(activation.shape[1]) for activation in self(example).activations)

    def _choose(self, example: Tensor, count: int) -> list[str]:
        """``count`` convolutions spread over the depth, without the first, or all where there are fewer."""
        convolutions = [
            layer for layer in layers_in_order(self.net, example, with_places=True) if layer != self.head
        ]
        behind = convolutions[1:] or convolutions
        if not behind:
            raise ValueError("the CNN's last layer is its only convolution: there is nothing to read")
        if len(behind) < count:
            told = f"{len(behind)} layers are read instead of {count}: the CNN has no more convolutions"
            warnings.warn(told, stacklevel=3)
        return behind if len(behind) <= count else spread(convolutions, count + 1)[1:]

    def _find_last(self, example: Tensor) -> str:
        """The last layer with places before the head."""
        return last_places(self.net, example, before=self.head)

    def settings(self) -> dict[str, Any]:
        """What conditions depend on, CNN and size aside: JSON values, arguments of the class."""
        return {"layers": self.layers, "fold": self.fold}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "net"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy of the maker folds its own CNN: a mere copy of the folded one would follow nothing."""
        vars(self).update(state)
        self.net = (folded(self.cnn, self.image_size) if self.fold else None) or self.cnn

    def to(self, device: torch.device | str) -> Self:
        """Move the CNN, and the copy that runs, to a device."""
        self.cnn.to(device)
        self.net.to(device)
        return self

    def _find_head(self, example: Tensor) -> str:
        """The layer that gives the logits: the last linear one whose outputs they are, or a multiple of."""
        names = layers_in_order(self.net, example, (nn.Linear, nn.Conv2d))
        noise = torch.rand(4, *example.shape[1:], generator=torch.Generator().manual_seed(1)).to(example)
        given = as_input(self.net, noise)
        with evaluation_mode(self.net), torch.no_grad():
            scores = self.net(given).float()  # (4, K)
        outputs = 1 if meaning_of(self.cnn) in SINGLE else scores.shape[1]
        fitting = [name for name in names if self._is_linear_map(name, outputs)]
        if not fitting or names[-1] not in fitting:
            raise ValueError(
                f"{names[-1]!r}, the CNN's last layer, is no linear map to its {scores.shape[1]} classes"
            )
        for name in reversed(fitting):
            with evaluation_mode(self.net), torch.no_grad(), Capture(self.net, [name]) as captured:
                self.net(given)
            given_by = pooled(captured[name]).float()
            if _alike(given_by, scores[:, -outputs:]):
                self.scale = _ratio(scores, given_by) if outputs > 1 else 1.0
                return name
        return fitting[-1]

    def _is_linear_map(self, name: str, outputs: int) -> bool:
        weight: Tensor = find_layer(self.net, name)[0].weight  # type: ignore[assignment]
        return len(weight) == outputs and weight[0].numel() == weight.shape[1]

    def _sees_pooled(self, example: Tensor) -> bool:
        """Whether the last layer sees the mean of the last features, and so can be applied to each place."""
        names = [self.last, self.head + INPUT]
        with torch.no_grad(), evaluation_mode(self.net), Capture(self.net, names) as captured:
            self.net(example)
            means, seen = (pooled(captured[name]) for name in names)  # (1, C), (1, D)
        if means.shape != seen.shape:
            return False
        return bool((means - seen).abs().amax() <= 1e-3 * seen.abs().amax())

    def __call__(self, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Features:
        """Features of images (B, 3, H, W); ``target`` is ``None`` for the predicted class.

        Raises:
            ValueError: a wrong number of targets.
        """
        names = [*self.layers, self.last, self.seen]
        given, size = self._given(images), (images.shape[-2], images.shape[-1])
        with torch.no_grad(), evaluation_mode(self.net), Capture(self.net, names) as captured:
            logits = self.net(given)  # (B, K)
            explained = resolve_target(logits, target)  # (B,)
            evidence = self.evidence(captured[self.last], explained, logits)
            embedding = self.embedding(captured[self.seen], given)  # (B, D)
            conditions = self.conditions([captured[layer] for layer in self.layers], evidence, size)
        return Features(conditions, logits, embedding, explained)

    def conditions(
        self, activations: Sequence[Tensor], evidence: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """The conditions of images of a size, from activations of the layers and the evidence."""
        return (*activations, evidence)

    def _given(self, images: Tensor) -> Tensor:
        """Images as the copy that runs takes them; it follows the CNN, which others may have moved."""
        own, wanted = weight_of(self.net), weight_of(self.cnn)
        if (own.device, own.dtype) != (wanted.device, wanted.dtype):
            self.net.to(wanted)
        return as_input(self.net, images)

    @property
    def seen(self) -> str:
        """What is captured for :meth:`embedding`: the input of the CNN's last layer."""
        return self.head + INPUT

    def embedding(self, seen: Tensor, given: Tensor) -> Tensor:
        """What the CNN's last layer sees of images ``given``, (B, D), from what was captured."""
        return pooled(seen)

    def embeddings(self, images: Tensor, batch_size: int = 128) -> Tensor:
        """What the CNN's last layer sees of images (N, 3, H, W), in batches: (N, D) float32 on the CPU."""
        return torch.cat([self(some).embedding.float().cpu() for some in images.split(batch_size)])

    def evidence(self, features: Tensor, explained: Tensor, logits: Tensor) -> Tensor:
        """The evidence for classes (B,) at every place of the last features (B, C, h, w) of images whose
        logits are (B, K).

        The CNN's last layer, applied to the features of one place as if they were everywhere, gives logits
        there. Channels: the class's logit, whose mean is the CNN's with global average pooling, and its
        log-probability, which says whether *another* class is stronger at this place. Where the last layer
        sees something else than pooled features, the evidence is the class's row of weights, (B, D, 1, 1). Of
        a layer with one output, which speaks for one class and against another, it is those rows.
        """
        if not self.has_places:
            head: Any = find_layer(self.net, self.head)[0]
            weight = head.weight.flatten(1)  # (K, D)
            rows = torch.cat([-weight, weight]) if meaning_of(self.cnn) in SINGLE else weight
            return rows[explained][:, :, None, None]
        placed = self.placed_logits(features)  # (B, K, h, w)
        own = of_classes(placed, explained)  # (B, h, w)
        return torch.stack([own, certainty(placed, own, meaning_of(self.cnn))], dim=1)

    def placed_logits(self, features: Tensor) -> Tensor:
        """The last layer's logits (B, K, h, w) at every place of the last features (B, C, h, w)."""
        head: Any = find_layer(self.net, self.head)[0]
        weight, meaning = head.weight.flatten(1), meaning_of(self.cnn)  # (K, D)
        logits = F.conv2d(features, weight[:, :, None, None], head.bias)  # (B, K, h, w)
        if meaning not in SINGLE:
            return logits if self.scale == 1 else logits * self.scale
        known: Meaning = "regression" if meaning == "regression" else "binary"
        span = getattr(getattr(self.cnn, "card", None), "span", None)
        both = scores_of(logits.flatten(), known, span)  # (B * h * w, 2)
        return both.T.unflatten(1, logits[:, 0].shape).transpose(0, 1)

    def weighed_logits(self, features: Tensor, weights: Tensor) -> Tensor:
        """Sums over the classes of :meth:`placed_logits`, with weights (B, E, K): (B, E, h, w). The logits of
        a thousand classes at every place are not made for them: that would take a good part of a small CNN's
        own time."""
        if meaning_of(self.cnn) in SINGLE:
            return torch.einsum("bek,bkhw->behw", weights, self.placed_logits(features))
        head: Any = find_layer(self.net, self.head)[0]
        weights = weights.to(head.weight) * self.scale
        rows = weights @ head.weight.flatten(1)  # (B, E, D)
        made = torch.einsum("bed,bdhw->behw", rows, features)  # (B, E, h, w)
        return made if head.bias is None else made + (weights @ head.bias)[..., None, None]


def certainty(logits: Tensor, own: Tensor, meaning: Meaning) -> Tensor:
    """The log-probability (B, ...) of classes whose logits, of logits (B, K, ...), are (B, ...)."""
    return own - logits.logsumexp(1) if meaning in EXCLUSIVE else F.logsigmoid(own)


def of_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Of logits (B, K, ...) those (B, ...) of classes (B,)."""
    return logits[torch.arange(len(logits), device=logits.device), classes]


def noise(size: tuple[int, int]) -> Tensor:
    """An example to find layers by, (1, 3, H, W) in [0, 1], the same always."""
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def _alike(outputs: Tensor, scores: Tensor) -> bool:
    """Whether scores (B, K) are outputs (B, K) times a number, but for what they have in common in a row."""
    along = 1 if outputs.shape[1] > 1 else 0
    first, second = ((own - own.mean(along, keepdim=True)).flatten() for own in (outputs, scores))
    return bool(F.cosine_similarity(first, second, dim=0) > 0.999)


def _ratio(scores: Tensor, outputs: Tensor) -> float:
    """How many times outputs (B, K) scores (B, K) are, but for what they have in common in a row."""
    first, second = (own - own.mean(1, keepdim=True) for own in (scores, outputs))
    ratio = float((first * second).sum() / second.square().sum())
    return 1.0 if abs(ratio - 1) < 1e-3 else ratio


def pooled(embedding: Tensor) -> Tensor:
    """What a CNN's last layer sees, as vectors (B, D): of (B, D, h, w) the mean over the places."""
    return embedding.flatten(2).mean(2) if embedding.ndim == 4 else embedding
