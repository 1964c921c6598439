"""What is done otherwise than in arXiv 2301.08067 and its public code, and why: a table made from a recipe.

    differences_from_paper(Workbench("02_gan_training", "gpu").recipe)    # published | here | why

What a recipe can set is listed where its values are not the published ones, so that no line outlives a
change of a profile; what it cannot is listed always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from types import SimpleNamespace
from typing import Any

import pandas as pd

from gan_lib.workbench.recipes import Recipe


@dataclass(frozen=True)
class Point:
    """One thing that was published.

    Attributes:
        what: the thing.
        published: what paper or code have; where they differ it is said.
        here: what there is here, with a recipe's fields in braces.
        why: the reason where they differ.
        same: fields of the recipe with their published values, a tuple where there are several. Where all are
            as published nothing is to be told; with none, ``here`` differs whatever the recipe says.
    """

    what: str
    published: str
    here: str
    why: str
    same: Mapping[str, Any] = field(default_factory=dict)

    def is_published(self, values: Mapping[str, Any]) -> bool:
        """Whether a recipe's values by dotted name are the published ones."""
        return bool(self.same) and all(
            values[name] in (allowed if isinstance(allowed, tuple) else (allowed,))
            for name, allowed in self.same.items()
        )


TWO_CORES = "two CPU cores"
POINTS = (
    Point(
        "data",
        "MNIST, EMNIST, Chinese MNIST, CIFAR-10, Animals-10, Food-11",
        "{data.name}, {data.train_images} training images",
        "needs no download, and the true evidence of every image is known",
        {"data.name": ("mnist", "emnist", "cifar10")},
    ),
    Point(
        "CNN",
        "VGG16, ResNet50, MobileNet; in the code InceptionV3 in place of MobileNet",
        "{cnn.architecture}",
        f"{TWO_CORES}; of MobileNets torchvision has the second version on",
        {"cnn.architecture": ("vgg16", "resnet50", "inception_v3")},
    ),
    Point(
        "CNN's head",
        "global max pooling, dense 256, dropout 0.1, dense 128 (in the code the dropout leads nowhere)",
        "{cnn.head}",
        "slim CNNs have their own",
        {"cnn.head": "published"},
    ),
    Point(
        "CNN's weights at the start",
        "those of ImageNet (code)",
        "{cnn.weights}",
        "they are not shipped: cnn.weights=DEFAULT takes torchvision's",
        {"cnn.weights": ("DEFAULT", "IMAGENET1K_V1")},
    ),
    Point(
        "training of the CNN",
        "20 epochs; SGD at 0.01, for MobileNet Adam at 0.001, both constant; batches of 32 (code: 64); a "
        "tenth of the images for validation",
        "{cnn.epochs} epochs; {cnn.optimizer} at {cnn.learning_rate}, one cycle: {cnn.one_cycle}; batches of "
        "{cnn.batch_size}; share for validation: {cnn.validation}",
        "few epochs must do; test images settle nothing, so that none are put aside",
        {
            "cnn.epochs": 20,
            "cnn.optimizer": ("sgd", "adam"),
            "cnn.one_cycle": False,
            "cnn.batch_size": (32, 64),
            "cnn.validation": 0.1,
            "cnn.weight_decay": 0.0,
        },
    ),
    Point(
        "pixels that the CNN sees",
        "values from 0 to 1",
        "standardised by mean and deviation of ImageNet, inside the CNN",
        "as its ready-made weights expect",
    ),
    Point(
        "size of the images",
        "256 pixels a side for the CNN, 64 for the GAN",
        "{data.image_size} for the GAN; scaled for the CNN: {cnn.input_size}",
        TWO_CORES,
        {"data.image_size": 64, "cnn.input_size": 256},
    ),
    Point(
        "Grad-CAM",
        "code: gradients count where they and the activations are positive; the sum is not cut off at zero",
        "the positive part of the activations' sum, weighted by their mean gradients",
        "its definition (Selvaraju et al., ICCV 2017)",
    ),
    Point(
        "target",
        "Grad-CAM of the last convolution; the code reverses the list of layers and takes the first",
        "of the last convolution",
        "there the CNN has its most of a class, and still places",
    ),
    Point(
        "class that is explained",
        "code: class 0, whatever the CNN predicts",
        "the predicted class, or one that is asked for",
        "the question is why the CNN predicts what it predicts",
    ),
    Point(
        "conditions",
        "averages over all layers; they contain the target, the last layer's Grad-CAM",
        "{gan.conditions}, where cgma stops before the target's layer; the published ones beside them for "
        "{gan.published_variants}",
        "a subtraction would return the target (the linear readout)",
    ),
    Point(
        "maps in files",
        "pictures in the colours of jet, as JPEG; conditions are their grey values",
        "arrays of one channel",
        "both ends of jet are dark: their grey value does not tell 0 from 1",
    ),
    Point(
        "what generators are trained on",
        "all CNNs and data sets at once, 5000 images of each",
        "one CNN and data set, {gan.images} images; several at once in studies/generalisation",
        "several trainings, and what is learned from one CNN tells what is not",
    ),
    Point(
        "generators' output",
        "three channels of any value",
        "one channel, the sigmoid of a logit",
        "a map is a number from 0 to 1 for every pixel",
    ),
    Point(
        "generators' sizes",
        "64 channels, 128 and 32 of the conditions, 32 of the transforms; 32 blocks of GSFT; no stride",
        "{generator.width} channels, {generator.condition_hidden} and {generator.condition_channels} of the "
        "conditions, {generator.sft_hidden} of the transforms; {generator.blocks} blocks of GSFT; stride "
        "{generator.stem_stride}",
        f"{TWO_CORES}; the target is a coarse map scaled up",
        {
            "generator.conditions": 8,
            "generator.width": 64,
            "generator.condition_hidden": 128,
            "generator.condition_channels": 32,
            "generator.sft_hidden": 32,
            "generator.blocks": 32,
            "generator.stem_stride": 1,
            "generator.detail": 0,
        },
    ),
    Point(
        "residual blocks",
        "LSFT: no ReLU in those that are modulated, one after the three convolutions of the others",
        "a ReLU in every modulated one, LeakyReLU between the convolutions of the others; at first all are "
        "quiet",
        "convolutions without anything between them are one convolution; loud ones saturate the sigmoid",
    ),
    Point(
        "discriminator",
        "two branches and two stages of nine convolutions each, 64 channels, no normalisation",
        "{discriminator.kind}, {discriminator.width} channels, stride {discriminator.stem_stride}",
        f"{TWO_CORES}; spectral normalisation keeps it from winning outright",
        {"discriminator.kind": "published", "discriminator.width": 64, "discriminator.stem_stride": 1},
    ),
    Point(
        "discriminator's output",
        "code: a softmax over one unit, which is always 1",
        "a logit",
        "the published one cannot learn",
    ),
    Point(
        "discriminator's updates",
        "steps from one to the next: 100; Adam at 0.001 (code)",
        "steps from one to the next: {supervised.discriminator_every}; Adam at "
        "{supervised.discriminator_learning_rate}",
        "in few steps there would hardly be any",
        {"supervised.discriminator_every": 100, "supervised.discriminator_learning_rate": 0.001},
    ),
    Point(
        "one of these updates",
        "code: two, on real and on drawn maps, before the generator's; decay 0.9; counted anew in each epoch",
        "one, on both halves at once, after the generator's; decay {supervised.beta1}; counted through all "
        "epochs",
        "both halves weigh the same in every step, and a resumed run goes on in the same rhythm",
    ),
    Point(
        "losses",
        "cross-entropy of the game, and 100 times the mean absolute error; the discriminator's times 0.3",
        "{supervised.adversarial}, weight {supervised.adversarial_weight}; "
        "{supervised.reconstruction_weight} times the mean absolute error; the discriminator's times "
        "{supervised.discriminator_weight}; logits beyond +-4, weight {supervised.saturation_weight}",
        "where most of a target is empty, a sigmoid may saturate at an empty map, which no gradient leaves",
        {
            "supervised.adversarial": "bce",
            "supervised.adversarial_weight": 1.0,
            "supervised.reconstruction_weight": 100.0,
            "supervised.discriminator_weight": 0.3,
            "supervised.saturation_weight": 0.0,
            "supervised.clip_gradient": 0.0,
        },
    ),
    Point(
        "generators' schedule",
        "25 epochs of batches of 32; Adam at 0.0002, decay 0.5, constant",
        "{supervised.epochs} epochs of batches of {supervised.batch_size}; Adam at "
        "{supervised.learning_rate}, decay {supervised.beta1}, after {supervised.warmup_steps} steps of "
        "warming up, down to a share of {supervised.final_learning_rate}",
        f"{TWO_CORES}: few steps, at a higher rate that falls",
        {
            "supervised.epochs": 25,
            "supervised.max_steps": None,
            "supervised.batch_size": 32,
            "supervised.learning_rate": 0.0002,
            "supervised.beta1": 0.5,
            "supervised.warmup_steps": 0,
            "supervised.final_learning_rate": 1.0,
        },
    ),
    Point(
        "moving average of the generators' weights",
        "none",
        "decay {supervised.ema_decay}",
        "the last step depends on the last few batches",
        {"supervised.ema_decay": 0.0},
    ),
    Point(
        "repetitions",
        "one training",
        "one for each of the seeds {seeds}, each with a CNN of its own",
        "what is true of one training need not be true of the next",
    ),
)


def differences_from_paper(recipe: Recipe) -> pd.DataFrame:
    """What a recipe does otherwise than the paper, one row each, with the reason.

    Returns:
        ``what``, ``published``, ``here`` and ``why``, all text.
    """
    values = recipe.flat()
    words = {name: _in_words(own) for name, own in vars(recipe).items()}
    rows = [
        {"what": own.what, "published": own.published, "here": own.here.format(**words), "why": own.why}
        for own in POINTS
        if not own.is_published(values)
    ]
    return pd.DataFrame(rows, columns=["what", "published", "here", "why"])


def _in_words(value: Any) -> Any:
    """A value as it is told; a section with the values of its fields told."""
    if is_dataclass(value):
        return SimpleNamespace(**{name: _in_words(own) for name, own in vars(value).items()})
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
