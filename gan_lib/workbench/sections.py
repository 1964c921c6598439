"""The sections of a recipe; their defaults are the ``cpu`` profile."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from gan_lib.classifiers import FitOptions
from gan_lib.core.masking import Fill
from gan_lib.core.options import one_of, options
from gan_lib.core.runtime import Precision
from gan_lib.explainers import METHODS
from gan_lib.gan.generators import GENERATORS
from gan_lib.inversion import STEP_2, InversionOptions

Share = Annotated[float, Field(gt=0, lt=1)]  # of an image
Method = Annotated[str, one_of(METHODS)]
Variant = Annotated[str, one_of(GENERATORS)]


@options
class MachineRecipe:
    """What it runs on.

    Attributes:
        threads: of the CNN's training and of all that is computed once; not the machine's number, on
            which sums and so weights would depend.
        workers: processes that train generators side by side; a GPU is better left to one.
        job_threads: of each of them: small networks gain nothing from more.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Precision = "auto"
    threads: PositiveInt = 2
    workers: PositiveInt = 2
    job_threads: PositiveInt = 1


@options
class DataRecipe:
    """Images: a data set's name or a folder in ``data/``, their side in pixels, at most so many per split.

    Validation images are put aside by embedded sets only. The recipes' defaults were chosen on them, before
    there was a name for them: nothing that is reported may be measured there.
    """

    name: str = "digits_in_scenes"
    image_size: PositiveInt = 64
    train_images: PositiveInt | None = 4000
    validation_images: NonNegativeInt = 500
    test_images: PositiveInt | None = 500


@options
class CNNRecipe(FitOptions):
    """The CNN to be explained, and how it is trained.

    Attributes:
        architecture: any CNN of torchvision, one of the slim ones, or ``package.module:factory``.
        weights: a safetensors file in ``data/``, or the name of torchvision's weights.
        head: ``linear`` or ``published``.
    """

    architecture: str = "slim_vgg"
    weights: str | None = None
    head: str = "linear"
    epochs: NonNegativeInt = 8
    learning_rate: float = 0.01


@options
class GANRecipe:
    """Which GAN explainers are trained, and on what.

    Attributes:
        variants: of generators.
        published_variants: those that are also trained with conditions that contain the target.
        conditions: of the supervised generators (:func:`gan_lib.gan.conditions.condition_maker`).
        images, test_images: for training and for measuring.
    """

    variants: tuple[Variant, ...] = ("lsft", "gsft")
    published_variants: tuple[Variant, ...] = ("lsft",)
    conditions: str = "cgma"
    images: PositiveInt = 2000
    test_images: PositiveInt = 500


@options
class FeatureRecipe:
    """The contrastive generators: sizes (:class:`gan_lib.gan.generators.GeneratorSizes`), and how many
    layers of the CNN they read."""

    layers: PositiveInt = 3
    width: PositiveInt = 16
    condition_channels: PositiveInt = 8
    sft_hidden: PositiveInt = 8
    stem_stride: Literal[1, 2, 4, 8] = 4
    detail: NonNegativeInt = 16
    blocks: PositiveInt = 4


@options
class JudgeRecipe:
    """How explanations are compared.

    Attributes:
        methods: that learn nothing; trained: those that do; settings: arguments of methods, by method.
        images: test images, ``explained_again`` of them for ADCC, ``noisy_images`` for sensitivity; with 0
            the measure is left out.
        fills: what stands in place of what a map hides.
        areas: shares of the image at which maps are compared.
        curve_steps: of insertion and deletion; road_shares: of removed pixels.
        sanity_images, sanity_stages: of the randomised CNN.
        timing_rounds: of the cost of all methods; cost_rounds: of the GAN explainers' beside Grad-CAM.
    """

    methods: tuple[Method, ...] = (
        *("grad_cam", "guided_grad_cam", "saliency", "smoothgrad", "input_x_gradient"),
        *("integrated_gradients", "gradient_shap", "deep_lift", "guided_backprop", "occlusion"),
        *("feature_ablation", "guided_feature_inversion", "guided_feature_inversion_step_1"),
    )
    trained: tuple[Method, ...] = ("lsft", "gsft", "contrastive_lsft", "contrastive_gsft")
    settings: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "integrated_gradients": {"steps": 20},
            "smoothgrad": {"samples": 12},
            "gradient_shap": {"samples": 12},
            "occlusion": {"window": 16},
            "feature_ablation": {"parts": "superpixels", "count": 7},
        }
    )
    images: PositiveInt = 300
    fills: tuple[Fill, ...] = ("black", "blur")
    areas: tuple[Share, ...] = (0.05, 0.1, 0.2, 0.3)
    curve_steps: PositiveInt = 10
    road_shares: tuple[Share, ...] = (0.3, 0.7)
    explained_again: NonNegativeInt = 60
    noisy_images: NonNegativeInt = 10
    sanity_images: PositiveInt = 24
    sanity_stages: PositiveInt = 4
    timing_rounds: PositiveInt = 3
    cost_rounds: PositiveInt = 25


@options
class RelevanceRecipe:
    """What generators rely on (notebook 05).

    Attributes:
        images: test images; batch_size: with gradients of large generators it decides the memory.
        seeds: of the explainers that the earlier notebooks left behind.
        planted_variants, planted_place: generators told all by one condition, and which one, from 0.
    """

    images: PositiveInt = 40
    batch_size: PositiveInt = 64
    seeds: PositiveInt = 1
    planted_variants: tuple[Variant, ...] = ("lsft", "gsft")
    planted_place: NonNegativeInt = 3


@options
class ConceptRecipe:
    """Concepts (:mod:`gan_lib.concepts`).

    Attributes:
        layer: dotted name; ``None`` for the last one with places.
        relevance: how much a place matters; noise_copies: over which it is averaged.
        components: concepts per class; classes: numbers, ``None`` for all; split: they are learned from.
        pooling, pooling_stride: side and step of a prototype's cell, in places of the layer.
        crop_counts, crop_candidates: of the prediction test; 1 candidate as published.
        shown: classes in figures; counted: for the question how many concepts there are.
    """

    layer: str | None = None
    relevance: str = "deep_lift"
    noise_copies: NonNegativeInt = 20
    components: PositiveInt = 4
    classes: tuple[NonNegativeInt, ...] | None = None
    split: str = "train"
    images_per_class: PositiveInt = 60
    pooling: PositiveInt = 4
    pooling_stride: PositiveInt = 1
    crop_counts: tuple[PositiveInt, ...] = (4, 6)
    crop_candidates: tuple[PositiveInt, ...] = (1, 40)
    shown: tuple[NonNegativeInt, ...] = (3, 8)
    counted: tuple[PositiveInt, ...] = (1, 2, 3, 4, 6, 8, 10)


@options
class ContrastRecipe:
    """Class contrasting (:mod:`gan_lib.concepts.contrasting`); layer, cells and images are those of concepts.

    Attributes:
        relevance: how much a place matters.
        strength: of the data against the regularisation, scikit-learn's C.
        components: contrasting concepts; pair: the classes that are shown.
        shift_offsets: in distances of the means; shift_draws: random directions a pair.
        shifted_images, inserted_images: per class; cell_candidates: nearest cells to choose from.
        decoder_images, decoder_epochs, drawing_steps: of concepts drawn as pictures.
    """

    relevance: str = "gradient_x_activation"
    strength: PositiveFloat = 1.0
    components: PositiveInt = 4
    pair: tuple[NonNegativeInt, NonNegativeInt] = (3, 8)
    shift_offsets: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    shift_draws: PositiveInt = 3
    shifted_images: PositiveInt = 12
    inserted_images: PositiveInt = 20
    cell_candidates: PositiveInt = 40
    decoder_images: PositiveInt = 2000
    decoder_epochs: PositiveInt = 3
    drawing_steps: PositiveInt = 80


@options
class ConfoundedRecipe:
    """The set whose marks give the class away.

    Attributes:
        epochs: of its CNN; with fewer it relies on some of the marks only.
        images: for training generators; areas: their ``ranked_area``, as the mark covers 1.6 %.
    """

    epochs: PositiveInt = 16
    images: PositiveInt = 2000
    areas: tuple[Share, Share] = (0.01, 0.25)


@options
class InversionRecipe:
    """Guided feature inversion (:mod:`gan_lib.inversion`).

    Attributes:
        layer: whose channels masks are made of; ``None`` for the last with places.
        class_layer: the same where classes are to be told apart.
        sigma: of the blur in pixels; ``None``: 11 for a side of 224.
        second: the second step.
        box_methods, box_generators: compared by boxes.
        images: reported; settled_images: on which thresholds are settled, 0 for the published ones;
            published_images: explained with the published settings as well; mosaic_pairs: for
            class-specific masks.
    """

    layer: str | None = "backbone.features.19"
    class_layer: str | None = None
    sigma: PositiveFloat | None = 10.0
    second: InversionOptions = replace(STEP_2, iterations=20, learning_rate=0.1, sparsity=0.3, area=30.0)
    box_methods: tuple[Method, ...] = (
        *("grad_cam", "guided_grad_cam", "guided_backprop", "integrated_gradients"),
    )
    box_generators: tuple[Method, ...] = ("contrastive_lsft",)
    images: PositiveInt = 200
    settled_images: NonNegativeInt = 100
    published_images: PositiveInt = 24
    mosaic_pairs: PositiveInt = 24


@options
class ExplorerRecipe:
    """The explorer: a shipped CNN, its images, what its figures show."""

    cnn: str = "slim_vgg"
    images: PositiveInt = 24
    learned_images: PositiveInt = 1000
    shown_methods: tuple[Method, ...] = ("contrastive_lsft", "grad_cam")
    rival: NonNegativeInt = 8
    offsets: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


@options
class StudyRecipe:
    """The user study: what a participant is asked, and the simulated ones."""

    methods: tuple[Method, ...] = ("contrastive_lsft", "grad_cam", "guided_backprop", "saliency", "edges")
    images: PositiveInt = 12
    pairs: PositiveInt = 20
    forward_questions: NonNegativeInt = 5
    attention_checks: NonNegativeInt = 2
    participants: PositiveInt = 40
    studies: PositiveInt = 100
    tastes: tuple[float, ...] = (0.0, 0.7)
    spacing: float = 0.5
