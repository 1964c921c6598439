"""Trained generators as explainers, and their pretrained form on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from gan_lib.classifiers import Classifier, load_classifier
from gan_lib.core.capture import INPUT, evaluation_mode
from gan_lib.core.checksums import is_there, write_checksums
from gan_lib.core.inputs import weight_of
from gan_lib.core.maps import upsample
from gan_lib.core.storage import read_json, write_json
from gan_lib.data import photographs
from gan_lib.explainers.base import Explainer, Target
from gan_lib.gan.conditions import (
    READERS,
    ConditionMaker,
    EvidenceMakers,
    FeatureMaker,
    condition_maker,
    evidence_channels,
)
from gan_lib.gan.generators import Generator, generator_recipe, load_generator, save_generator

LARGEST = 8192  # pixels of a side
CHECKPOINT = "explainer.json"
SMALL = 96  # up to this side, in pixels, images are small
SAME_CNN = 0.5  # largest distance from the logits of the CNN that an explainer was trained on, relative


class GeneratorExplainer(Explainer):
    """A trained generator as an explainer; a variant says what the generator is conditioned on.

    Args:
        cnn: the CNN to be explained.
        image_size: height and width that the generator was trained at.
        generator: the trained generator.
    """

    kind: str
    prefix = ""  # of the variant in the explainer's name
    fits_any = False  # any CNN, and not only the one that it was trained on

    def __init__(self, cnn: nn.Module, image_size: tuple[int, int], generator: Generator) -> None:
        super().__init__(cnn)
        self.name = self.prefix + generator_recipe(generator)["variant"]
        self.image_size, self.generator = image_size, generator
        # The faster layout for convolutions, on a CPU as on a GPU.
        generator.to(memory_format=torch.channels_last)

    def conditions(self, images: Tensor, target: Target) -> Tensor | Sequence[Tensor]:
        """What the generator sees beside the images: maps (B, n, H, W), or activations (B, C, h, w) by
        layer."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What :meth:`conditions` depends on: JSON values, arguments of :meth:`build`."""
        raise NotImplementedError

    @classmethod
    def build(
        cls, cnn: nn.Module, image_size: tuple[int, int], generator: Generator, **settings: Any
    ) -> Self:
        """The explainer with these settings."""
        raise NotImplementedError

    def on(self, cnn: nn.Module) -> Self:
        """The same generator, conditioned on another CNN of the same layers: for checks, not for use."""
        return type(self).build(cnn, self.image_size, self.generator, **self.settings())

    def to(self, device: torch.device | str) -> Self:
        self.generator.to(device)
        return super().to(device)

    def maps(self, images: Tensor, target: Target) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        if next(self.generator.parameters()).device != images.device:
            self.generator.to(images.device)  # the CNN was moved by another of its explainers
        conditions = self.conditions(images, target)
        own = next(self.generator.parameters()).dtype
        if images.dtype != own:  # the CNN runs in another number format
            images = images.to(own)
            if isinstance(conditions, Tensor):
                conditions = conditions.to(own)
            else:
                conditions = [activation.to(own) for activation in conditions]
        with evaluation_mode(self.generator), torch.no_grad():
            return self.drawn(images, conditions).float()

    def drawn(self, images: Tensor, conditions: Any) -> Tensor:
        """The generator's maps (B, 1, H, W)."""
        made: Tensor = self.generator(images, conditions)
        return made

    def save(self, folder: Path, trained_on: Mapping[str, Any] | None = None) -> None:
        """Write ``generator.safetensors``, ``generator.json`` and ``explainer.json`` to a folder;
        ``trained_on`` is whatever is worth knowing about the training, as JSON values."""
        save_generator(self.generator, folder)
        about = {
            "kind": self.kind,
            "image_size": list(self.image_size),
            "settings": self.settings(),
            "cnn": {} if self.fits_any else _signature(self.cnn, self.image_size),
            "trained_on": dict(trained_on or {}),
        }
        write_json(folder / CHECKPOINT, about)
        write_checksums(folder, [CHECKPOINT])

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, cnn: nn.Module | None = None, weights: str | Path | None = None
    ) -> Self:
        """Read an explainer written by :meth:`save`.

            explainer = ContrastiveExplainer.from_pretrained("data/pretrained/slim_vgg/contrastive-lsft")
            maps = explainer.attribute(images, target=3)

        Args:
            folder: the explainer's folder.
            cnn: the CNN to be explained; by default the one whose files lie in the folder or above it.
            weights: for that CNN, where they do not lie there: a safetensors file, or torchvision's by name.

        Raises:
            FileNotFoundError: no explainer there, or no weights of its CNN; the message says which file to
            put
                where.
            ValueError: an explainer of another kind, or a CNN that it was not trained on; the message says
            why.
        """
        folder = Path(folder)
        if not is_there(folder / CHECKPOINT):
            raise FileNotFoundError(f"no explainer at {folder}: it holds no {CHECKPOINT}")
        about = _about(folder / CHECKPOINT)
        kind = KINDS.get(about["kind"])
        if kind is None or not issubclass(kind, cls):
            wanted = getattr(cls, "kind", f"one of {sorted(KINDS)}")
            raise ValueError(f"{folder} holds a {about['kind']} explainer; wanted: {wanted}")
        if cnn is None:
            home = folder if (folder / "classifier.json").is_file() else folder.parent
            cnn = load_classifier(home, weights)
        size = (about["image_size"][0], about["image_size"][1])
        generator, made, reason = load_generator(folder), None, ""
        try:
            reason = "" if kind.fits_any else _misfit(cnn, size, about)
            made = None if reason else kind.build(cnn, size, generator, **about["settings"])
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{folder / CHECKPOINT} says what cannot be: {error}") from None
        if made is None:
            raise ValueError(f"the explainer at {folder} does not fit this CNN: {reason}")
        return made


def _about(path: Path) -> dict[str, Any]:
    """What :meth:`GeneratorExplainer.save` says; ``ValueError`` where it is something else."""
    found = read_json(path)
    kinds = {"kind": str, "image_size": list, "settings": dict, "cnn": dict}
    is_one = isinstance(found, dict) and all(isinstance(found.get(name), own) for name, own in kinds.items())
    sides = found["image_size"] if is_one else []
    if len(sides) != 2 or not all(isinstance(side, int) and 0 < side <= LARGEST for side in sides):
        raise ValueError(f"{path} is not what an explainer is saved with")
    made: dict[str, Any] = found
    return made


class GANExplainer(GeneratorExplainer):
    """A generator trained with Grad-CAM as its target, conditioned on cumulative Grad-CAM averages.

    explainer = GANExplainer(ConditionMaker(cnn, (64, 64)), load_generator(folder))

    Another number of conditions than the generator's raises ``ValueError``.
    """

    kind = "supervised"
    needs_gradients = True  # the conditions are Grad-CAMs

    def __init__(self, maker: ConditionMaker, generator: Generator) -> None:
        super().__init__(maker.cnn, maker.image_size, generator)
        if len(maker.positions) != generator.sizes.conditions:
            count = generator.sizes.conditions
            raise ValueError(f"{len(maker.positions)} conditions for a generator of {count}")
        self.maker = maker

    @classmethod
    def build(
        cls,
        cnn: nn.Module,
        image_size: tuple[int, int],
        generator: Generator,
        conditions: str = "cgma",
        **settings: Any,
    ) -> Self:
        return cls(condition_maker(conditions, cnn, image_size, **settings), generator)

    def settings(self) -> dict[str, Any]:
        return self.maker.settings()

    def conditions(self, images: Tensor, target: Target) -> Tensor:
        return self.maker(images, target).cgma


class ContrastiveExplainer(GeneratorExplainer):
    """A generator trained by contrast for one CNN, conditioned on its activations, or on its evidence.

        explainer = ContrastiveExplainer(FeatureMaker(cnn, (64, 64)), load_generator(folder))
        maps = explainer.attribute(images)    # one forward pass of the CNN, one of the generator

    Other conditions than the generator's raise ``ValueError``.
    """

    kind = "contrastive"
    prefix = "contrastive_"

    def __init__(self, maker: FeatureMaker, generator: Generator) -> None:
        super().__init__(maker.cnn, maker.image_size, generator)
        taken = tuple(generator.sizes.features)
        if maker.channels != taken:
            raise ValueError(f"the CNN's layers have {maker.channels} channels, the generator takes {taken}")
        self.maker = maker

    @classmethod
    def build(
        cls, cnn: nn.Module, image_size: tuple[int, int], generator: Generator, **settings: Any
    ) -> Self:
        maker = READERS[settings.pop("reads", "activations")]
        return cls(maker(cnn, image_size, **settings), generator)

    def settings(self) -> dict[str, Any]:
        return {"reads": self.maker.reads, **self.maker.settings()}

    def to(self, device: torch.device | str) -> Self:
        self.maker.to(device)
        return super().to(device)

    def conditions(self, images: Tensor, target: Target) -> Sequence[Tensor]:
        return self.maker(images, target).activations


class UniversalExplainer(GeneratorExplainer):
    """A generator trained on a pool of CNNs, conditioned on evidence: it explains CNNs that it has never met.

        explainer = UniversalExplainer(cnn, (224, 224), load_generator(folder), count=4)
        maps = explainer.attribute(images)    # one forward pass of the CNN, one of the generator

    Args:
        cnn: the CNN to be explained, any.
        image_size: height and width that the generator was trained at; images may have any.
        generator: the trained generator; other conditions than it takes raise ``ValueError``.
        count: number of the CNN's layers that are read; salience: as for
            :func:`gan_lib.gan.conditions.evidence_maps`.
    """

    kind = "universal"
    prefix = "universal_"
    fits_any = True

    def __init__(
        self,
        cnn: nn.Module,
        image_size: tuple[int, int],
        generator: Generator,
        count: int = 4,
        salience: bool = False,
    ) -> None:
        super().__init__(cnn, image_size, generator)
        self.makers = EvidenceMakers(cnn, count, salience)
        given, taken = evidence_channels(count, salience), tuple(generator.sizes.features)
        if given != taken:
            raise ValueError(f"there are conditions of {given} channels, the generator takes {taken}")

    @classmethod
    def build(
        cls, cnn: nn.Module, image_size: tuple[int, int], generator: Generator, **settings: Any
    ) -> Self:
        return cls(cnn, image_size, generator, **settings)

    def settings(self) -> dict[str, Any]:
        return {"count": self.makers.count, "salience": self.makers.salience}

    def prepare(self, size: tuple[int, int]) -> Self:
        """Find out how the CNN's layers are read for images of a height and width, which is else done at the
        first ones; where none has places, ``ValueError`` is raised."""
        self.makers.of(size)
        return self

    def conditions(self, images: Tensor, target: Target) -> Sequence[Tensor]:
        return self.makers(images, target).activations

    def drawn(self, images: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Maps at the images' size, drawn at the nearest one that the stem's stride divides."""
        stride, size = self.generator.sizes.stem_stride, (images.shape[-2], images.shape[-1])
        nearest = (_multiple(size[0], stride), _multiple(size[1], stride))
        if nearest == size:
            return super().drawn(images, conditions)
        return upsample(super().drawn(upsample(images, nearest), conditions), size)


def universal_home(pretrained: Path, size: tuple[int, int]) -> Path:
    """The folder of the shipped explainers for any CNN that takes images of a height and width."""
    return pretrained / "universal" / ("small" if min(size) <= SMALL else "photographs")


def _multiple(side: int, stride: int) -> int:
    return max(1, round(side / stride)) * stride


KINDS: dict[str, type[GeneratorExplainer]] = {
    kind.kind: kind for kind in (GANExplainer, ContrastiveExplainer, UniversalExplainer)
}


def _probe_logits(cnn: nn.Module, image_size: tuple[int, int]) -> Tensor:
    """What a CNN says about six probes, two photographs, mirrored and enlarged: (6, K), mean 0 each."""
    plain = photographs(image_size)
    large = photographs((2 * image_size[0], 2 * image_size[1]))
    rows, columns = image_size[0] // 2, image_size[1] // 2
    middle = large[..., rows : rows + image_size[0], columns : columns + image_size[1]]
    probes = torch.cat([plain, plain.flip(-1), middle]).to(weight_of(cnn).device)
    with evaluation_mode(cnn), torch.no_grad():
        logits: Tensor = cnn(probes).float().cpu()  # (6, K)
    return logits - logits.mean(1, keepdim=True)


def _signature(cnn: nn.Module, image_size: tuple[int, int]) -> dict[str, Any]:
    """What tells one CNN from another, as JSON values."""
    logits = _probe_logits(cnn, image_size)
    signature: dict[str, Any] = {"probe_logits": [[round(x, 3) for x in row] for row in logits.tolist()]}
    if isinstance(cnn, Classifier):
        signature |= {name: list(getattr(cnn.card, name)) for name in ("mean", "std")}
        signature["architecture"] = cnn.card.architecture
    return signature


def _misfit(cnn: nn.Module, image_size: tuple[int, int], about: Mapping[str, Any]) -> str:
    """Why an explainer does not fit a CNN; empty when it does."""
    known = about["cnn"]
    modules = dict(cnn.named_modules())
    layers: list[str] = about["settings"]["layers"]
    lacking = [name for name in layers if name.removesuffix(INPUT).partition("#")[0] not in modules]
    if lacking:
        trained = known.get("architecture", "another CNN")
        return f"it was trained on {trained}; this one has no layer {lacking[0]!r}"
    if isinstance(cnn, Classifier):
        for name in ("mean", "std"):
            if name in known and list(getattr(cnn.card, name)) != known[name]:
                return f"it was trained with images normalised by the {name} {known[name]}"
    logits, expected = _probe_logits(cnn, image_size), torch.tensor(known["probe_logits"])
    if logits.shape != expected.shape:
        return f"it was trained on a CNN of {expected.shape[1]} classes, this one has {logits.shape[1]}"
    distance = float((logits - expected).norm() / expected.norm())
    if not distance <= SAME_CNN:
        off = f"{100 * distance:.0f} % off those of the CNN that it was trained on"
        return f"its weights are others: on probe images the logits are {off}; {100 * SAME_CNN:.0f} % will do"
    return ""
