"""Recipes: everything that can be set, in typed sections, with the one place where defaults live.

    recipe = Recipe().changed({"contrastive.epochs": 3, "data.name": "cifar10"})

The defaults are the ``cpu`` profile; the option classes' own are the papers'. A profile is a YAML file whose
sections are these fields. The part of a recipe that made an artifact is its address
(:mod:`gan_lib.workbench.jobs`).
"""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from gan_lib.core.options import Seed, options
from gan_lib.gan.generators import DiscriminatorSizes, GeneratorSizes
from gan_lib.gan.training import ContrastiveOptions, TrainingOptions, UniversalOptions
from gan_lib.workbench.sections import (
    CNNRecipe,
    ConceptRecipe,
    ConfoundedRecipe,
    ContrastRecipe,
    DataRecipe,
    DiscriminatorRecipe,
    EvidenceRecipe,
    ExplorerRecipe,
    FeatureRecipe,
    GANRecipe,
    InversionRecipe,
    JudgeRecipe,
    MachineRecipe,
    RelevanceRecipe,
    StudyRecipe,
    Text,
    each_once,
)
from gan_lib.workbench.values import DEEPEST, ProfileError, parsed, plain, read_yaml

__all__ = ["Profile", "ProfileError", "Recipe", "parsed_change", "read_yaml"]


@options
class Recipe:
    """All sections. ``seed`` decides data and every draw; each of ``seeds`` is a CNN with its generators.

    ``asked`` names pictures of one's own, a file beside the profile or in ``data/`` and a class each;
    ``shown_images`` is how many rows a figure has.
    """

    seed: Seed = 0
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), each_once] = (0, 1, 2, 3, 4)
    shown_images: PositiveInt = 6
    asked: tuple[tuple[Text, Text], ...] = ()
    machine: MachineRecipe = MachineRecipe()
    data: DataRecipe = DataRecipe()
    cnn: CNNRecipe = CNNRecipe()
    gan: GANRecipe = GANRecipe()
    generator: GeneratorSizes = GeneratorSizes(
        width=16, condition_hidden=32, condition_channels=16, sft_hidden=16, blocks=12, stem_stride=8
    )
    discriminator: DiscriminatorRecipe = DiscriminatorRecipe()
    supervised: TrainingOptions = TrainingOptions(
        epochs=2,
        saturation_weight=0.3,  # without it some generators collapse to empty maps
        batch_size=16,
        learning_rate=0.001,
        warmup_steps=50,
        final_learning_rate=0.1,
        ema_decay=0.98,
    )
    features: FeatureRecipe = FeatureRecipe()
    critic: DiscriminatorSizes = DiscriminatorSizes(width=16, stem_stride=8)
    contrastive: ContrastiveOptions = ContrastiveOptions()
    evidence: EvidenceRecipe = EvidenceRecipe()
    universal: UniversalOptions = UniversalOptions(
        max_steps=200, held_out=64, validate_every=100, area=(0.25, 0.5), ranked_area=(0.02, 0.5)
    )
    judge: JudgeRecipe = JudgeRecipe()
    relevance: RelevanceRecipe = RelevanceRecipe()
    concepts: ConceptRecipe = ConceptRecipe()
    contrasting: ContrastRecipe = ContrastRecipe()
    confounded: ConfoundedRecipe = ConfoundedRecipe()
    inversion: InversionRecipe = InversionRecipe()
    explorer: ExplorerRecipe = ExplorerRecipe()
    study: StudyRecipe = StudyRecipe()

    def changed(self, changes: Mapping[str, Any], where: str = "changes") -> Recipe:
        """The recipe with other values, by dotted name or in nested sections.

        Raises:
            ProfileError: an unknown name, with near misses, or a value that does not fit or is no plain one;
                ``where`` is what the message calls the changes.
        """
        values: Any = asdict(self)
        for name, value in plain(changes, where).items():
            if name == "cnn" and isinstance(value, str):
                name = "cnn.source"  # cnn=train
            if name.count(".") > DEEPEST:
                raise ProfileError(f"{where}: there is no {reprlib.repr(name)}")
            for part in reversed(name.split(".")):
                value = {part: value}
            values = _merged(values, value)
        try:
            return _ADAPTER.validate_json(json.dumps(values))
        except ValidationError as error:
            reasons = "; ".join(_reason(problem) for problem in error.errors())
            raise ProfileError(f"{where}: {reasons}") from None
        except (TypeError, ValueError) as error:
            raise ProfileError(f"{where}: {error}") from None

    def flat(self) -> dict[str, Any]:
        """Every value by dotted name."""
        return _flat(asdict(self))


_ADAPTER = TypeAdapter(Recipe)


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not (isinstance(values, Mapping) and values):
        return {prefix: values}
    parts = (_flat(value, f"{prefix}.{name}".lstrip(".")) for name, value in values.items())
    return {name: value for part in parts for name, value in part.items()}


def _reason(problem: Any) -> str:
    name, given = ".".join(map(str, problem["loc"])), reprlib.repr(problem["input"])
    if problem["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(name, Recipe().flat(), n=3) or sorted(vars(Recipe()))
        return f"there is no {name!r}; did you mean {', '.join(near)}?"
    if problem["type"] == "value_error":  # of a check that names what it got
        return f"{name}: {problem['ctx']['error']}"
    if problem["type"] == "dataclass_type":
        return f"{name}: a section holds names and values, not {given}"
    return f"{name}: {problem['msg']}, not {given}"


def parsed_change(text: str) -> tuple[str, Any]:
    """``name=value`` with a YAML value, for instance ``seeds=[0, 1]``.

    Raises:
        ProfileError: no ``=``, no YAML value, or one that is more than text, numbers, lists and mappings.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ProfileError(f"a change is name=value, not {text!r}")
    return name.strip(), parsed(value, f"the value of {name.strip()}")


@dataclass(frozen=True)
class Profile:
    """A named recipe; ``name`` is what results are filed under, ``folder`` where its file lies."""

    name: str
    recipe: Recipe
    folder: Path | None = None

    @classmethod
    def load(cls, name: str, folder: Path, changes: Mapping[str, Any] | None = None) -> Profile:
        """A profile by name (``folder/name.yaml``) or by the path of its file, with changes.

        Raises:
            ProfileError: no such profile, or one that does not fit the recipe.
        """
        path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
        recipe = Recipe().changed(read_yaml(path, folder), f"profile {path.stem!r}")
        return cls(path.stem, recipe.changed(changes or {}), path.resolve().parent)
