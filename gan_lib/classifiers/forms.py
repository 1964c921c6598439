"""A CNN of one's own in whatever form it comes: made plain, asked what its outputs are, or refused."""

from __future__ import annotations

import copy
import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from gan_lib.classifiers.wrap import IMAGENET_MEAN, IMAGENET_STD, Classifier, ModelCard
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import weight_of
from gan_lib.core.outputs import SINGLE, check_meaning, guessed_meaning, label_names, selected

IMAGENET_SIZE = (224, 224)
LOUD = 100.0  # so much louder is the noise that tells logits from shares
PROBES = 4  # pictures of noise


def wrap(
    model: nn.Module,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    class_names: Sequence[str] | Mapping[Any, Any] | None = None,
    image_size: int | tuple[int, int] = IMAGENET_SIZE,
    output: str | None = None,
    select: str | int | None = None,
    span: tuple[float, float] | None = None,
) -> Classifier:
    """A CNN of one's own, in eval mode, with its normalisation inside: it takes images in [0, 1].

        cnn = gan_lib.wrap(my_model, class_names=["cat", "dog"], mean=[0.5] * 3, std=[0.5] * 3)
        cnn = gan_lib.wrap(detector, class_names=["tumour"], output="binary")             # one logit
        cnn = gan_lib.wrap(scorer, output="regression", span=(0, 10), select="score")     # of a dict

    A compiled or data-parallel model is taken out of its shell; what is half precision or bfloat16 is
    computed in float32, on a copy. Of a scripted or traced model no layer can be looked at; methods say so.

    Args:
        model: from normalised images (B, 3, H, W) to its outputs.
        mean, std: per channel, of images in [0, 1].
        class_names: K names in the order of the outputs, by default their numbers, or a mapping of names and
            numbers; of ``binary`` two, of no and yes, or that of yes.
        image_size: side, or height and width, in pixels.
        output: what the outputs mean (:mod:`gan_lib.core.outputs`): ``logits``, ``probabilities``,
            ``multi_label``, ``multi_label_probabilities``, ``binary``, ``binary_probability`` or
            ``regression``. By default what the outputs of noise tell: probabilities, else logits of classes
            that exclude each other.
        select: which output is meant, where the model gives a tuple, a mapping or a dataclass.
        span: lowest and highest value of a regression, between which its directions are measured.

    Raises:
        ValueError: not three means and deviations, deviations that are not above 0, weights that are NaN or
            infinite, another number of names than classes, or outputs whose meaning must be said or that
            cannot have it; a model that fails on a picture of this size, with its own error.
        TypeError: no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a CNN is a torch.nn.Module, not {type(model).__name__}")
    if isinstance(model, Classifier):
        raise ValueError("this CNN is wrapped already; to say something else of it, wrap its backbone")
    mean, std = (_three(own, name) for own, name in ((mean, "mean"), (std, "std")))
    if min(std) <= 0 or max(*mean, *std) > 3:
        raise ValueError(
            f"mean {list(mean)} and std {list(std)} are of images in [0, 1], std above 0: for images of "
            "0..255 divide them by 255"
        )
    if (output == "regression") != (span is not None) or (
        span is not None and not 0 < span[1] - span[0] < math.inf
    ):
        raise ValueError(f"a regression, and nothing else, has span=(lowest, highest) values, not {span}")
    size = _size(image_size)
    plain = plain_form(model)
    check_weights(plain)
    outputs = probe_outputs(plain, size, select, mean=mean, std=std)
    meaning = guessed_meaning(outputs) if output is None else check_meaning(outputs, output)
    count = 1 if meaning in SINGLE else outputs.shape[1]
    names = label_names(_names(class_names), meaning, count)
    card = ModelCard(
        type(plain).__name__,
        names,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        image_size=size,
        output=meaning,
        select=select,
        span=span,
    )
    example = weight_of(plain)
    cnn = Classifier(plain, card).to(example.device)
    with suppress(NotImplementedError):  # an exported CNN has one mode
        cnn.eval()
    return cnn


def _three(given: Sequence[float], name: str) -> tuple[float, float, float]:
    """Mean or deviation of the three channels."""
    try:
        red, green, blue = map(float, given)
    except (TypeError, ValueError):
        raise ValueError(f"{name} has three values, of red, green and blue, not {given}") from None
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"{name} has finite values, not {given}")
    return red, green, blue


def _size(given: int | Sequence[int]) -> tuple[int, int]:
    """Height and width."""
    sides = list(given) if isinstance(given, Sequence) else [given, given]
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        raise ValueError(f"image_size is a side, or height and width, in pixels, not {given}") from None
    if min(height, width) < 1:
        raise ValueError(f"image_size is a side, or height and width, in pixels, not {given}")
    return height, width


def _names(given: Sequence[str] | Mapping[Any, Any] | None) -> tuple[str, ...] | None:
    """Class names in the order of the outputs; of a mapping the names by number, or the numbers by name."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        by_number = given if all(isinstance(key, int) for key in given) else {v: k for k, v in given.items()}
        if sorted(by_number) != list(range(len(given))):
            raise ValueError(
                f"class names by number have the numbers 0 to {len(given) - 1}, not {list(given)[:5]}"
            )
        return tuple(str(by_number[number]) for number in range(len(given)))
    if isinstance(given, str | bytes) or not hasattr(given, "__getitem__"):
        raise ValueError(f"class_names are a list of names, in the order of the outputs, not {given!r}")
    return tuple(str(own) for own in given)


def plain_form(model: nn.Module) -> nn.Module:
    """The module inside a compiled or data-parallel one; in float32, with a warning, where it is not.

    Where a part is compiled, a copy that shares the weights runs without.
    """
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(
        model, "_orig_mod"
    ):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module  # type: ignore[assignment]
    if any(hasattr(own, "_orig_mod") or own._compiled_call_impl is not None for own in model.modules()):
        model = _eager(model)
    formats = {own.dtype for own in model.parameters() if own.is_floating_point()}
    if formats - {torch.float32}:
        told = ", ".join(sorted(str(own).removeprefix("torch.") for own in formats))
        warnings.warn(
            f"{type(model).__name__} is in {told}: a copy in float32 is explained, with the same weights",
            stacklevel=3,
        )
        model = copy.deepcopy(model).float()
    return model


def _eager(model: nn.Module) -> nn.Module:
    """A copy, with the same tensors, of a module of which parts are compiled; they are not."""
    memo: dict[int, object] = {id(own): own for own in [*model.parameters(), *model.buffers()]}
    memo |= {id(own): own._orig_mod for own in model.modules() if hasattr(own, "_orig_mod")}
    made = copy.deepcopy(model, memo)
    for own in made.modules():
        own._compiled_call_impl = None
    return made


def check_weights(model: nn.Module) -> None:
    """A ValueError that names the tensors with NaN or infinite values, if there are any."""
    wrong = [
        name
        for name, own in model.state_dict().items()
        if isinstance(own, Tensor) and own.is_floating_point() and not own.isfinite().all()
    ]
    if wrong:
        told = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise ValueError(f"the weights of {type(model).__name__} hold NaN or infinite values: {told}")


def probe_outputs(
    model: nn.Module,
    size: tuple[int, int],
    select: str | int | None = None,
    name: str | None = None,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.25, 0.25, 0.25),
) -> Tensor:
    """What a CNN gives for pictures of noise, darker and brighter: (B, K) or (B,).

    Where it takes them, pictures far beyond any range are among them: logits grow with them, shares do not.

    Raises:
        ValueError: it fails on pictures, gives NaN, or something else than one row per picture.
        KeyError: no such output.
    """
    name = name or type(model).__name__
    noise = torch.rand(PROBES, 3, *size, generator=torch.Generator().manual_seed(0))
    bright = noise * torch.linspace(0.25, 1.0, PROBES).view(-1, 1, 1, 1)  # in [0, 1]
    middle, deviation = (torch.tensor(own).view(1, 3, 1, 1) for own in (mean, std))
    pictures = ((bright - middle) / deviation).to(weight_of(model))
    try:
        with evaluation_mode(model), torch.no_grad():
            given = model(pictures.clone())
    except Exception as error:  # the model's own
        told = " ".join(str(error).split())[:300] or "without a word"
        raise ValueError(
            f"{name} fails on pictures of {size[0]} x {size[1]} ({type(error).__name__}: {told}); "
            "is it a CNN for RGB images, and of this image_size?"
        ) from error
    outputs = selected(given, select).float()
    if not outputs.ndim or len(outputs) != PROBES:
        raise ValueError(f"{name} gives {tuple(outputs.shape)} for {PROBES} pictures, not a row each")
    good = outputs[_finite(outputs)]
    if not len(good):
        raise ValueError(f"{name} gives NaN or infinite values for pictures of noise")
    with suppress(Exception), evaluation_mode(model), torch.no_grad():  # a range that it need not take
        loud = selected(model(LOUD * pictures), select).float()
        good = torch.cat([good, loud[_finite(loud)]])
    return good


def _finite(outputs: Tensor) -> Tensor:
    """Which rows (B,) of outputs (B, ...) hold finite values only."""
    return outputs.isfinite().reshape(len(outputs), -1).all(1)
