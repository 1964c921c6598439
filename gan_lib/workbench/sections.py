"""The sections of a recipe; their defaults are the ``cpu`` profile."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, field, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from gan_lib.classifiers import FitOptions, classifier_names, is_small
from gan_lib.core.masking import Fill
from gan_lib.core.options import one_of, options
from gan_lib.core.outputs import Meaning
from gan_lib.core.runtime import Precision
from gan_lib.explainers import METHODS
from gan_lib.gan.conditions import CONDITIONS
from gan_lib.gan.generators import DISCRIMINATORS, GENERATORS, DiscriminatorSizes, Joint
from gan_lib.inversion import PUBLISHED_STEP_2, InversionOptions


def _each_once(values: Sequence[Any]) -> Sequence[Any]:
    if twice := [own for place, own in enumerate(values) if own in values[:place]]:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


def _architecture(name: str) -> str:
    """A CNN's name as it was given, if there is one, or a factory's that may be there when it is made."""
    where, colon, made = name.rpartition(":")
    modules = where.split(".")
    if (
        name in classifier_names()
        or is_small(name)
        or (
            colon
            and made.isidentifier()
            and (where.endswith(".py") or all(own.isidentifier() for own in modules))
        )
    ):
        return name
    near = difflib.get_close_matches(name.lower().replace("-", "_"), classifier_names(), n=3, cutoff=0.5)
    told = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(classifier_names())};"
    raise ValueError(
        f"unknown CNN {name!r}; {told} One of your own is package.module:factory, or file.py:factory"
    )


def _conditions(name: str) -> str:
    kind, slash, place = name.partition("/")
    if slash and not (place.isascii() and place.isdecimal()):
        raise ValueError(f"conditions are a name, or a name/place, not {name!r}")
    try:
        return f"{CONDITIONS.name(kind)}{slash}{place}"
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"needs low <= high, not {values}")
    return values


each_once = AfterValidator(_each_once)
Share = Annotated[float, Field(gt=0, lt=1)]  # of an image
Side = Annotated[int, Field(ge=8, le=4096)]  # of images, in pixels
Shares = Annotated[tuple[Share, ...], Field(min_length=1), each_once]
Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
Workers = Annotated[int, Field(ge=1, le=1024)]  # or threads
Method = Annotated[str, one_of(METHODS)]
Methods = Annotated[tuple[Method, ...], each_once]
Variant = Annotated[str, one_of(GENERATORS)]
Variants = Annotated[tuple[Variant, ...], each_once]
Classes = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), each_once]
Counts = Annotated[tuple[PositiveInt, ...], Field(min_length=1), each_once]
Offsets = Annotated[tuple[float, ...], Field(min_length=1), each_once]
# How much a place of a layer matters, as gan_lib.concepts.LayerRelevance knows it.
PlaceRelevance = Literal["deep_lift", "gradient_x_activation", "grad_cam", "integrated_gradients"]
Triple = tuple[float, float, float]
Positives = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
OWN = ("mean", "std", "output", "select", "span")  # fields of a CNN's recipe that are fields of its card
# Fields that are not part of what a CNN was made from while they are as usual: older cards know none of them.
LATER = (*OWN, "input_size", "optimizer", "one_cycle", "validation")


@options
class MachineRecipe:
    """What it runs on. Sums, and so weights, depend on the number of threads: not the machine's."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Precision = "auto"
    threads: Workers = 2  # of all that is computed in the notebook itself
    workers: Workers = 2  # processes that train and judge side by side; a GPU is better left to one
    job_threads: Workers = 1  # of each of them: small networks gain nothing from more
    devices: PositiveInt = 1  # GPUs, or on a CPU processes, that train one generator together
    reproducible: bool = False  # the same bits on every x86-64 processor with AVX2; 7 to 26 % slower


@options
class DataRecipe:
    """Images, at most so many per split.

    Validation images are put aside by embedded sets; others may have a folder of them. The trained
    explainers' and the inversion's defaults were chosen on them, before there was a name for them: nothing is
    reported on them. Their digits are of the same samples as the test images'.
    """

    name: Text = "digits_in_scenes"  # or a folder beside the profile or in ``data/``
    image_size: Side = 64
    train_images: PositiveInt | None = 4000
    validation_images: NonNegativeInt = 500
    test_images: PositiveInt | None = 500


@options
class CNNRecipe(FitOptions):
    """The CNN to be explained, and how it is trained.

    A *reference* CNN is shipped (:mod:`gan_lib.workbench.reference`) and taken where there is one that was
    trained as this section says, whatever the number of training images; else, or with ``cnn=train``, the CNN
    is trained. ``seed`` tells several trainings of the same CNN apart.
    """

    source: Literal["reference", "train"] = "reference"
    # Any of torchvision, a slim one, or ``module:factory``, where the module may lie beside the profile.
    architecture: Annotated[str, AfterValidator(_architecture)] = "slim_vgg"
    weights: Text | None = None  # a safetensors file beside the profile or in data/, or torchvision's by name
    head: Literal["linear", "published"] = "linear"
    input_size: Side | None = None  # that images are scaled to before they enter it
    # Of a CNN of one's own, as for gan_lib.wrap: how its images are normalised, and what its outputs mean.
    mean: Triple | None = None
    std: Positives | None = None
    output: Meaning | None = None
    select: Text | NonNegativeInt | None = None
    span: tuple[float, float] | None = None
    epochs: NonNegativeInt = 8
    learning_rate: PositiveFloat = 0.01

    def about(self) -> dict[str, Any]:
        """What is said of the CNN, as fields of its card."""
        said = {name: own for name in OWN if (own := getattr(self, name)) is not None}
        return said if self.input_size is None else {**said, "input_size": (self.input_size,) * 2}

    def made_from(self) -> dict[str, Any]:
        """What decides the CNN's weights, data and machine aside: all but where it comes from."""
        usual = CNNRecipe()
        return {
            name: own
            for name, own in asdict(self).items()
            if name != "source" and not (name in LATER and own == getattr(usual, name))
        }


@options
class GANRecipe:
    """Which GAN explainers are trained, and on what."""

    variants: Annotated[Variants, Field(min_length=1)] = ("lsft", "gsft")
    published_variants: Variants = ("lsft",)  # also with conditions that contain the target
    conditions: Annotated[str, AfterValidator(_conditions)] = (
        "cgma"  # of the supervised generators: a registered kind, or ``kind/place``
    )
    images: PositiveInt = 1500  # for training
    test_images: PositiveInt = 500
    # What the contrastive ones are conditioned on; of ``evidence`` with the sizes of that section.
    reads: Literal["activations", "evidence"] = "activations"


@options
class DiscriminatorRecipe(DiscriminatorSizes):
    """The discriminator of the supervised generators: its kind, a registered one, and its sizes."""

    width: PositiveInt = 16
    stem_stride: PositiveInt = 8
    kind: Annotated[str, one_of(DISCRIMINATORS)] = "spectral"

    def made_from(self) -> dict[str, Any]:
        """For the address of what it trains: sizes, and a kind other than the usual."""
        return {name: own for name, own in asdict(self).items() if (name, own) != ("kind", "spectral")}


@options
class FeatureRecipe:
    """The contrastive generators: sizes as in :class:`gan_lib.gan.generators.GeneratorSizes`."""

    layers: PositiveInt = 3  # of the CNN that they read, at most
    width: PositiveInt = 16
    condition_channels: PositiveInt = 8
    sft_hidden: PositiveInt = 8
    stem_stride: Literal[1, 2, 4, 8] = 4
    detail: NonNegativeInt = 16
    blocks: PositiveInt = 4


@options
class EvidenceRecipe(FeatureRecipe):
    """The generators that read evidence, likewise, with what they see of the image and where they begin."""

    layers: PositiveInt = 7
    image: Literal["whole", "fine", "none"] = "fine"
    prior: bool = True
    joint: Joint = "mean"
    emphasis: PositiveFloat | None = None
    contrast: tuple[float, float] = (2.0, -0.4)

    def __post_init__(self) -> None:
        if (self.emphasis is not None or self.joint != "mean") and not self.prior:
            raise ValueError("emphasis is of the evidence in the prior, as joint is: not without prior")


@options
class JudgeRecipe:
    """How explanations are compared."""

    methods: Methods = (  # that learn nothing
        *("grad_cam", "guided_grad_cam", "saliency", "smoothgrad", "input_x_gradient"),
        *("integrated_gradients", "gradient_shap", "deep_lift", "guided_backprop", "occlusion"),
        *("feature_ablation", "guided_feature_inversion", "guided_feature_inversion_step_1"),
        "evidence_projection",
    )
    trained: Methods = ("lsft", "gsft", "contrastive_lsft", "contrastive_gsft", "universal_lsft")
    settings: dict[str, dict[str, Any]] = field(  # arguments of methods
        default_factory=lambda: {
            "integrated_gradients": {"steps": 20},
            "smoothgrad": {"samples": 12},
            "gradient_shap": {"samples": 12},
            "occlusion": {"window": 16},
            "feature_ablation": {"parts": "superpixels", "count": 7},
        }
    )
    images: PositiveInt = 200  # of the test split
    fills: Annotated[tuple[Fill, ...], each_once] = (
        "black",
        "blur",
    )  # what stands in place of what a map hides
    areas: Shares = (0.05, 0.1, 0.2, 0.3)  # at which maps are compared
    curve_steps: PositiveInt = 10  # of insertion and deletion
    road_shares: Shares = (0.3, 0.7)  # of removed pixels
    explained_again: NonNegativeInt = 30  # images, for ADCC; with 0 it is left out
    noisy_images: NonNegativeInt = 10  # for sensitivity, likewise
    sanity_images: PositiveInt = 15
    sanity_stages: PositiveInt = 3  # of the randomised CNN
    timing_rounds: PositiveInt = 2  # of all methods
    cost_rounds: PositiveInt = 25  # of the GAN explainers beside Grad-CAM


@options
class RelevanceRecipe:
    """What generators rely on (notebook 05)."""

    images: PositiveInt = 40  # of the test split
    batch_size: PositiveInt = 64  # with gradients of large generators it decides the memory
    planted_variants: Variants = ("lsft",)  # told all by one condition
    planted_seeds: PositiveInt = 3  # of them
    planted_place: NonNegativeInt = 3  # which one


@options
class ConceptRecipe:
    """Concepts (:mod:`gan_lib.concepts`)."""

    layer: Text | None = None  # dotted name; by default the last one with places
    relevance: PlaceRelevance = "deep_lift"  # how much a place matters
    noise_copies: NonNegativeInt = 5  # over which it is averaged
    components: PositiveInt = 4  # concepts per class
    classes: Classes | None = None  # by default all
    split: Text = "train"  # that they are learned from
    images_per_class: PositiveInt = 30
    pooling: PositiveInt = 4  # side of a prototype's cell, in places of the layer
    pooling_stride: PositiveInt = 1
    crop_counts: Counts = (4, 6)  # of the prediction test
    crop_candidates: Counts = (1, 40)  # 1 as published
    shown: Classes = (3, 8)  # classes in figures
    counted: Counts = (1, 2, 3, 4, 6, 8, 10)  # how many concepts are there?
    drawing_images: PositiveInt = 300  # whose waves and colours are those of drawn pictures
    drawing_steps: PositiveInt = 64
    drawing_crops: PositiveInt = 4  # of a picture, a step
    # Fields of the section cnn: a further CNN that is asked what drawn pictures show, in cohorts of one.
    judge: dict[str, Any] | None = None


@options
class ContrastRecipe:
    """Class contrasting (:mod:`gan_lib.concepts.contrasting`) with the concepts' layer, cells and images."""

    relevance: PlaceRelevance = "gradient_x_activation"  # how much a place matters
    strength: PositiveFloat = 1.0  # of the data against the regularisation, scikit-learn's C
    components: PositiveInt = 4  # contrasting concepts
    typical_share: Share = 0.75  # of a class's places that a mixture of Gaussians keeps
    gaussians: PositiveInt = 4  # of the mixture
    mixture_classes: PositiveInt = 3  # whose pairs are asked with and without it
    pair: Annotated[tuple[NonNegativeInt, NonNegativeInt], each_once] = (3, 8)  # the classes that are shown
    shift_offsets: Offsets = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # in distances of the means
    shift_draws: PositiveInt = 2  # random directions a pair
    shifted_images: PositiveInt = 4  # per pair of classes and CNN
    inserted_images: PositiveInt = 8  # per class and CNN
    by_hand_images: NonNegativeInt = 0  # into which a crop is pasted by hand; with 0 it is left out
    cell_candidates: PositiveInt = 40  # nearest cells to choose from
    decoder_images: PositiveInt = 1000  # of concepts drawn as pictures
    decoder_epochs: PositiveInt = 2
    drawing_steps: PositiveInt = 100  # in the decoder's latent space


@options
class ConfoundedRecipe:
    """The set whose marks give the class away."""

    epochs: PositiveInt = 16  # of its CNNs, as the reference ones have
    images: PositiveInt = 1000  # for training generators
    # Their ``ranked_area``: the mark covers 1.6 %.
    areas: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.01, 0.25)


@options
class InversionRecipe:
    """Guided feature inversion (:mod:`gan_lib.inversion`)."""

    layer: Text | None = "backbone.features.19"  # of whose channels masks are; None: the last with places
    class_layer: Text | None = None  # the same where classes are to be told apart
    sigma: PositiveFloat | None = 10.0  # of the blur in pixels; None: 11 for a side of 224
    second: InversionOptions = replace(
        PUBLISHED_STEP_2, iterations=20, learning_rate=0.1, sparsity=0.3, area=30.0
    )
    box_methods: Methods = (*("grad_cam", "guided_grad_cam", "guided_backprop", "integrated_gradients"),)
    box_generators: Methods = ("contrastive_lsft",)  # compared by boxes as well
    images: PositiveInt = 150  # reported
    settled_images: NonNegativeInt = 75  # on which thresholds are settled
    published_images: PositiveInt = 24  # explained with the published settings as well
    mosaic_pairs: PositiveInt = 24  # for class-specific masks


@options
class ExplorerRecipe:
    """The explorer: a shipped CNN, its images, what its figures show."""

    cnn: Text = "slim_vgg"
    images: PositiveInt = 24
    learned_images: PositiveInt = 1000
    shown_methods: Methods = ("contrastive_lsft", "grad_cam")
    rival: NonNegativeInt = 8
    offsets: Offsets = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


@options
class StudyRecipe:
    """The user study: what a participant is asked, and the simulated ones."""

    methods: Annotated[Methods, Field(min_length=2)] = (
        *("contrastive_lsft", "grad_cam", "guided_backprop", "saliency", "edges"),
    )
    images: PositiveInt = 12
    pairs: PositiveInt = 20
    forward_questions: NonNegativeInt = 5
    attention_checks: NonNegativeInt = 2
    participants: PositiveInt = 40
    studies: PositiveInt = 100
    tastes: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1), each_once] = (0.0, 0.7)
    spacing: NonNegativeFloat = 0.5
