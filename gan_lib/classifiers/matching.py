"""Named tensors of a file and those that a CNN has: which belong together, and what does not fit.

A training program that wraps its CNN puts a word in front of all names; profilers add entries of their own;
old files lack the counters of batch normalisation. All of that is put right, whatever else differs is told.
"""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lib.classifiers.weights import State

# What DistributedDataParallel, Lightning, this package and others put in front of all names.
PREFIXES = ("module", "model", "backbone", "net", "network", "cnn")
HARMLESS = ("total_ops", "total_params", "n_averaged")  # of profilers and averaged models: no weights
COUNTER = "num_batches_tracked"  # of batch normalisation: old files lack it
TOLD = 3  # names in a message


@dataclass(frozen=True)
class Match:
    """A file's tensors, compared with those that a CNN has.

    Attributes:
        state: those that fit, by the CNN's names.
        missing: names of the CNN's that the file does not have.
        unexpected: names of the file's that the CNN does not have.
        shapes: shape in the file and in the CNN by name, where they differ.
    """

    state: State
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def fits(self) -> bool:
        """Every tensor has its own."""
        return not (self.missing or self.unexpected or self.shapes)

    @property
    def off(self) -> int:
        """How many tensors do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    def told(self, classes: int) -> str:
        """What does not fit, for a message; ``classes`` is the number of class names."""
        if head := self._head(classes):
            return head
        parts = []
        if self.shapes:
            shown = [
                f"{name} {_size(file)} in the file, {_size(own)} in the CNN"
                for name, (file, own) in self.shapes.items()
            ]
            parts.append(f"{len(shown)} tensors have another shape ({'; '.join(shown[:TOLD])}{_more(shown)})")
        if self.missing:
            named = [self._near(name) for name in self.missing[:TOLD]]
            parts.append(f"{len(self.missing)} tensors are missing ({', '.join(named)}{_more(self.missing)})")
        if self.unexpected:
            named = list(self.unexpected[:TOLD])
            parts.append(
                f"{len(self.unexpected)} are not the CNN's ({', '.join(named)}{_more(self.unexpected)})"
            )
        return "; ".join(parts)

    def _head(self, classes: int) -> str:
        """The usual case: the last layer was trained with another number of outputs."""
        layers = {name.rpartition(".")[0] for name in self.shapes}
        counts = {file[:1] for file, _ in self.shapes.values()}
        if self.missing or self.unexpected or len(layers) != 1 or len(counts) != 1:
            return ""
        if any(own[:1] != (classes,) or file[1:] != own[1:] for file, own in self.shapes.values()):
            return ""
        (layer,), ((count,),) = layers, counts
        given = f"{classes} class names are given"
        return f"its head {layer} has {count} outputs, {given}: give class_names= of its {count}"

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.unexpected, n=1, cutoff=0.7)
        return f"{name}, the file has {near[0]}" if near else name


def best_match(states: Mapping[str, State], expected: Mapping[str, Tensor], source: object) -> Match:
    """The one of a file's states that fits, else the one that is least off.

    Args:
        states: by where they stand in the file (:func:`gan_lib.classifiers.weights.read_weights`).
        expected: a CNN's tensors, (C, ...) of whatever shape; shapes and number formats are looked at.
        source: what messages call the file.

    Raises:
        ValueError: several fit, and are not the same.
    """
    matches = {address: match(state, expected) for address, state in states.items()}
    fitting = {address: own for address, own in matches.items() if own.fits}
    if not fitting:
        return min(matches.values(), key=lambda own: own.off)
    first, *others = fitting.values()
    if not all(_same(first.state, own.state) for own in others):
        raise ValueError(
            f"{source} holds {len(fitting)} states that fit, under {', '.join(map(repr, fitting))}: save the "
            "one that is meant in a file of its own"
        )
    return first


def match(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Match:
    """Compare a state with a CNN's tensors, (C, ...) of any shape, whatever one has in front of all names."""
    kept = [name for name in state if name in expected or name.rpartition(".")[2] not in HARMLESS]
    pairs = [(theirs, ours) for theirs in _bare(kept) for ours in _bare(expected)]

    def fitting(pair: tuple[dict[str, str], dict[str, str]]) -> tuple[int, int]:
        theirs, ours = pair
        common = theirs.keys() & ours.keys()
        return sum(state[theirs[own]].shape == expected[ours[own]].shape for own in common), len(common)

    theirs, ours = max(pairs, key=fitting)  # the first of several: the one of most of its names
    common = [bare for bare in ours if bare in theirs]
    alike = {bare for bare in common if state[theirs[bare]].shape == expected[ours[bare]].shape}
    made = {ours[bare]: state[theirs[bare]] for bare in common if bare in alike}
    missing = [name for bare, name in ours.items() if bare not in theirs]
    for name in [own for own in missing if own.endswith(COUNTER)]:
        missing.remove(name)
        made[name] = torch.zeros(expected[name].shape, dtype=expected[name].dtype)
    unexpected = [own for bare, own in theirs.items() if bare not in ours and not own.endswith(COUNTER)]
    shapes = {
        ours[bare]: (tuple(state[theirs[bare]].shape), tuple(expected[ours[bare]].shape))
        for bare in common
        if bare not in alike
    }
    return Match(made, tuple(missing), tuple(unexpected), shapes)


def _bare(names: Sequence[str] | Mapping[str, object]) -> Iterator[dict[str, str]]:
    """Names by themselves, then without what stands in front of all of them, step by step."""
    bare = {_plain(name): name for name in names}
    yield bare
    while bare:
        first = {name.partition(".")[0] for name in bare if "." in name}
        if len(first) != 1 or not first <= set(PREFIXES) or not all("." in name for name in bare):
            return
        bare = {name.partition(".")[2]: own for name, own in bare.items()}
        yield bare


def _plain(name: str) -> str:
    """Without what torch.compile adds to parts of a CNN, and as DenseNets' layers are called today."""
    name = re.sub(r"(^|\.)_orig_mod(?=\.)", r"\1", name).replace("..", ".").removeprefix(".")
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def checked_values(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: object) -> State:
    """A state in the number formats of a CNN, whatever its own: half precision and float64 become float32.

    Tensors keep their shapes, (C, ...).

    Raises:
        ValueError: integers or complex numbers in place of weights, values that are not finite, no values.
    """
    wrong = [
        f"{name} ({_format(own)})"
        for name, own in state.items()
        if _unusable(own) or (expected[name].is_floating_point() and not own.is_floating_point())
    ]
    if wrong:
        raise ValueError(
            f"{source}: {len(wrong)} of {len(state)} tensors are quantised or no real numbers "
            f"({', '.join(wrong[:TOLD])}{_more(wrong)}): save the weights as floating-point numbers"
        )
    made = OrderedDict((name, own.to(expected[name].dtype)) for name, own in state.items())
    # Some of torchvision's modules refuse a state that does not say of which version of theirs it is.
    made._metadata = getattr(expected, "_metadata", None)  # type: ignore[attr-defined]
    bad = [
        f"{name} ({int((~own.isfinite()).sum())} of {own.numel()} values)"
        for name, own in made.items()
        if own.is_floating_point() and not own.isfinite().all()
    ]
    if bad:
        raise ValueError(
            f"{source}: {len(bad)} of {len(made)} tensors hold NaN or infinite values "
            f"({', '.join(bad[:TOLD])}{_more(bad)}): take a checkpoint from before the training went astray"
        )
    return made


def _unusable(tensor: Tensor) -> bool:
    return tensor.is_quantized or tensor.is_meta or tensor.is_complex() or tensor.layout != torch.strided


def _format(tensor: Tensor) -> str:
    kind = "without values" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")
    return kind if tensor.layout == torch.strided else f"sparse {kind}"


def _same(state: State, other: State) -> bool:
    pairs = ((own, other[name]) for name, own in state.items() if name in other)
    return len(state) == len(other) and all(
        one.dtype == two.dtype and torch.equal(one, two) for one, two in pairs
    )


def _size(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _more(names: Sequence[str]) -> str:
    return ", ..." if len(names) > TOLD else ""
