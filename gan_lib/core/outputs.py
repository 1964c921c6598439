"""What a CNN's outputs mean, and what follows for scores and probabilities.

Everything else works with *scores*, one column per class, of which a higher one speaks for its class, and
with *probabilities*, 0..1. Both follow from what the outputs ``y`` mean:

| meaning | outputs | scores | probabilities |
| --- | --- | --- | --- |
| ``logits`` | (B, K), one class is right | y | softmax of the scores |
| ``probabilities`` | (B, K), in 0..1, rows sum to 1 | log y | y |
| ``multi_label`` | (B, K) logits, any number of labels is right | y | sigmoid of the scores |
| ``multi_label_probabilities`` | (B, K), in 0..1 | log y - log(1 - y) | y |
| ``binary`` | (B, 1) or (B,), one logit | -y and y, of no and yes | sigmoid of the scores |
| ``binary_probability`` | (B, 1) or (B,), in 0..1 | as ``binary`` of its logit | 1 - y and y |
| ``regression`` | (B, 1) or (B,), a value | -z and z, of lower and higher | its place in the span |

with ``z`` the value's place in its span, from -1 at the low end to 1 at the high one; the "probabilities" of
lower and higher are ``(1 - z) / 2`` and ``(1 + z) / 2``, within 0..1.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn

Meaning = Literal[
    "logits",
    "probabilities",
    "multi_label",
    "multi_label_probabilities",
    "binary",
    "binary_probability",
    "regression",
]
MEANINGS: tuple[Meaning, ...] = get_args(Meaning)
SINGLE: tuple[Meaning, ...] = ("binary", "binary_probability", "regression")  # of one output
EXCLUSIVE: tuple[Meaning, ...] = ("logits", "probabilities")  # one class is right
SHARES: tuple[Meaning, ...] = ("probabilities", "multi_label_probabilities", "binary_probability")  # in 0..1
TINY, EPS = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).eps  # keep logarithms finite
ROUNDING = 1e-3  # by which probabilities may miss 0..1 and their sum


def meaning_of(cnn: nn.Module) -> Meaning:
    """What a CNN says its outputs mean, by an attribute ``output``; of others they are logits."""
    said = getattr(cnn, "output", "logits")
    return said if isinstance(said, str) and said in MEANINGS else "logits"  # a layer may be called so too


def probabilities(cnn: nn.Module, scores: Tensor) -> Tensor:
    """Probabilities (B, K), 0..1, of a CNN's scores (B, K), in float32.

    probabilities(cnn, cnn(images))  # of mutually exclusive classes they sum to 1, of labels they do not

    One score for each image, of which nobody said what it means, raises ``ValueError``.
    """
    meaning, own = meaning_of(cnn), scores.float()
    if meaning in EXCLUSIVE:
        if own.shape[1] == 1:
            raise ValueError("a CNN of one output: gan_lib.wrap(model, output=...) says what it means")
        return own.softmax(1)
    if meaning == "regression":
        return ((1 + own) / 2).clamp(0, 1)
    return own.sigmoid()


def scores_of(outputs: Tensor, meaning: Meaning, span: tuple[float, float] | None = None) -> Tensor:
    """Scores (B, K) of outputs, as the table above says.

    Args:
        outputs: (B, K); of one output (B, 1) or (B,).
        meaning: of them.
        span: lowest and highest value of a ``regression``.
    """
    if meaning in ("logits", "multi_label"):
        return outputs
    if meaning == "probabilities":
        return outputs.clamp_min(TINY).log()
    if meaning == "multi_label_probabilities":
        return outputs.logit(eps=EPS)
    one = outputs.reshape(-1, 1)
    if meaning == "binary_probability":
        one = one.logit(eps=EPS)
    elif meaning == "regression":
        low, high = span or (-1.0, 1.0)
        one = (2 * one - low - high) / (high - low)
    return torch.cat([-one, one], dim=1)


def selected(outputs: Any, select: str | int | None) -> Any:
    """The tensor of interest among what a CNN gives: a tensor, or a tuple, mapping or dataclass with one.

    Args:
        select: its place, key or field. ``None`` will do where it is certain: a tensor, a field ``logits``,
            or the only tensor of one or two dimensions.

    Raises:
        ValueError: several could be meant, or none; they are listed.
        KeyError: no such place, key or field.
    """
    if isinstance(outputs, Tensor | fx.Proxy):
        if select is None:
            return outputs
        raise KeyError(f"select={select!r}: the CNN gives one tensor; leave select out")
    named = _named(outputs)
    if select is not None:
        if select not in named:
            raise KeyError(f"the CNN gives no {select!r}; there are {_listed(named)}")
        found = named[select]
        if not isinstance(found, Tensor | fx.Proxy):
            raise ValueError(
                f"select={select!r} is {type(found).__name__}, not a tensor; there are {_listed(named)}"
            )
        return found
    if isinstance(named.get("logits"), Tensor | fx.Proxy):
        return named["logits"]
    flat = {name: own for name, own in named.items() if isinstance(own, Tensor) and own.ndim in (1, 2)}
    if len(flat) != 1:
        raise ValueError(
            f"which of what the CNN gives holds the classes? Say select=, one of {_listed(named)}"
        )
    return next(iter(flat.values()))


def _named(outputs: Any) -> dict[Any, Any]:
    """What a CNN gives, by key, field or place."""
    if hasattr(outputs, "_fields"):  # a named tuple
        return dict(zip(outputs._fields, outputs, strict=True))
    if hasattr(outputs, "items"):
        return dict(outputs.items())
    if is_dataclass(outputs):
        return {own.name: getattr(outputs, own.name) for own in fields(outputs)}
    if isinstance(outputs, tuple | list):
        return dict(enumerate(outputs))
    raise ValueError(f"a CNN gives a tensor, or several by place or name, not {type(outputs).__name__}")


def _listed(named: dict[Any, Any]) -> str:
    told = (
        f"{name!r} {tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__}"
        for name, own in named.items()
    )
    return ", ".join(told) or "nothing"


def guessed_meaning(outputs: Tensor) -> Meaning:
    """What outputs of several unlike images must mean; ``logits`` unless something speaks against
    it. Outputs are (N, K).

    Rows in 0..1 that sum to 1 are ``probabilities``. That several classes exclude each other is assumed: no
    value tells logits of classes from logits of labels.

    Raises:
        ValueError: one output, values that all lie in 0..1, or another shape: what they mean must be said.
    """
    shape = ", ".join(["B", *map(str, outputs.shape[1:])])
    if outputs.ndim not in (1, 2) or (outputs.ndim == 2 and not outputs.shape[1]):
        raise ValueError(
            f"a CNN gives scores (B, K), not ({shape}): wrap the part that classifies, or a module that pools"
        )
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        raise ValueError(f"what does the one output of the CNN mean? Say output=, one of {list(SINGLE)}")
    own = outputs.detach().float()
    if own.min() < 0 or own.max() > 1:
        return "logits"
    if (own.sum(1) - 1).abs().max() < ROUNDING:
        return "probabilities"
    raise ValueError(
        f"the CNN's {outputs.shape[1]} outputs all lie in 0..1, but do not sum to 1: what do they mean? "
        "Say output=, 'multi_label_probabilities' for a sigmoid of each, 'logits' for numbers by chance"
    )


def check_meaning(outputs: Tensor, meaning: str) -> Meaning:
    """The meaning, where outputs (N, K) of a few images can have it.

    Raises:
        ValueError: an unknown meaning, or outputs that cannot mean this; what can be said instead is listed.
    """
    if meaning not in MEANINGS:
        raise ValueError(f"output={meaning!r}: one of {list(MEANINGS)}")
    known: Meaning = next(own for own in MEANINGS if own == meaning)
    single = outputs.ndim == 1 or outputs.shape[1] == 1
    if single != (known in SINGLE):
        several = [own for own in MEANINGS if own not in SINGLE]
        count = 1 if single else outputs.shape[1]
        raise ValueError(
            f"output={meaning!r} does not fit a CNN of {count} output{'s' * (not single)}: "
            f"one of {list(SINGLE) if single else several}"
        )
    own = outputs.detach().float()
    low, high = float(own.min()), float(own.max())
    if known in SHARES and (low < -ROUNDING or high > 1 + ROUNDING):
        raise ValueError(f"output={meaning!r}, but outputs reach from {low:.3g} to {high:.3g}, not 0..1")
    if known == "probabilities" and (own.sum(1) - 1).abs().max() > ROUNDING:
        raise ValueError(
            f"output={meaning!r}, but rows sum to {float(own.sum(1)[0]):.3g}, not 1: "
            "are these 'multi_label_probabilities'?"
        )
    return known


def label_names(names: tuple[str, ...] | None, meaning: Meaning, outputs: int) -> tuple[str, ...]:
    """One name per score.

    Args:
        names: as given; ``None`` for the columns' numbers. Of a ``binary`` CNN two, of no and yes, or one.
        meaning: of the outputs, of which there are so many.

    Raises:
        ValueError: another number of names, or one that appears twice.
    """
    if meaning == "regression":
        names = names or ("lower", "higher")
    elif meaning in SINGLE:
        names = names or ("no", "yes")
        names = (f"not {names[0]}", names[0]) if len(names) == 1 else names
    elif names is None:
        names = tuple(map(str, range(outputs)))
    wanted = 2 if meaning in SINGLE else outputs
    if len(names) != wanted:
        told = f"{wanted} {'logits' if meaning == 'logits' else 'scores'}"
        raise ValueError(f"{len(names)} class names for {told}: {list(names)[:5]}")
    if twice := sorted({own for own in names if names.count(own) > 1}):
        raise ValueError(f"class names appear twice: {', '.join(twice[:5])}")
    return names
