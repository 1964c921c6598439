"""A CNN of one's own in whatever form it comes: made plain, asked what its outputs are, or refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from gan_lib.classifiers.wrap import IMAGENET_MEAN, IMAGENET_STD, Classifier, ModelCard
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.outputs import SINGLE, check_meaning, guessed_meaning, label_names, selected

IMAGENET_SIZE = (224, 224)
LOUDNESS = (
    0.25,
    1.0,
    4.0,
    100.0,
)  # of the noise that a CNN is asked about: logits grow with it, shares do not
PROBES = len(LOUDNESS)


def wrap(
    model: nn.Module,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    class_names: Sequence[str] | None = None,
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
        class_names: K names, by default their numbers; of ``binary`` two, of no and yes, or that of yes.
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
    if not len(mean) == len(std) == 3:
        raise ValueError(f"mean and std have three values each, not {len(mean)} and {len(std)}")
    if min(std) <= 0 or max(mean) > 3:
        raise ValueError(
            f"mean {list(mean)} and std {list(std)} are of images in [0, 1], std above 0: for images of "
            "0..255 divide them by 255"
        )
    if (output == "regression") != (span is not None) or (span is not None and not span[0] < span[1]):
        raise ValueError(f"a regression, and nothing else, has span=(lowest, highest) values, not {span}")
    size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    if min(size) < 1:
        raise ValueError(f"image_size is a side, or height and width, in pixels, not {image_size}")
    plain = plain_form(model)
    check_weights(plain)
    outputs = probe_outputs(plain, size, select)
    meaning = guessed_meaning(outputs) if output is None else check_meaning(outputs, output)
    count = 1 if meaning in SINGLE else outputs.shape[1]
    names = label_names(None if class_names is None else tuple(map(str, class_names)), meaning, count)
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
    example = next(plain.parameters(), torch.zeros(0))
    cnn = Classifier(plain, card).to(example.device)
    with suppress(NotImplementedError):  # an exported CNN has one mode
        cnn.eval()
    return cnn


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
    if formats & {torch.float16, torch.bfloat16}:
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
    model: nn.Module, size: tuple[int, int], select: str | int | None = None, name: str | None = None
) -> Tensor:
    """What a CNN gives for four pictures of noise, ever louder: (4, K) or (4,).

    Raises:
        ValueError: it fails on them, gives NaN, or something else than one row per picture.
        KeyError: no such output.
    """
    name = name or type(model).__name__
    example = next(model.parameters(), torch.zeros(0))
    noise = torch.randn(PROBES, 3, *size, generator=torch.Generator().manual_seed(0))
    pictures = (noise * torch.tensor(LOUDNESS).view(-1, 1, 1, 1)).to(example)
    try:
        with evaluation_mode(model), torch.no_grad():
            given = model(pictures)
    except Exception as error:  # the model's own
        told = " ".join(str(error).split())[:300] or "without a word"
        raise ValueError(
            f"{name} fails on pictures of {size[0]} x {size[1]} ({type(error).__name__}: {told}); "
            "is it a CNN for RGB images, and of this image_size?"
        ) from error
    outputs = selected(given, select).float()
    if not outputs.ndim or len(outputs) != PROBES:
        raise ValueError(f"{name} gives {tuple(outputs.shape)} for {PROBES} pictures, not a row each")
    if not outputs.isfinite().all():
        raise ValueError(f"{name} gives NaN or infinite values for pictures of noise")
    return outputs
