"""Training a classifier, and the table of what it predicts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from gan_lib.classifiers.wrap import Classifier
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.checksums import DamagedError
from gan_lib.core.inputs import at_once
from gan_lib.core.options import Seed, options
from gan_lib.core.runtime import make_fabric, progress
from gan_lib.core.storage import load_checkpoint, save_checkpoint
from gan_lib.data import Batch, ImageSplit
from gan_lib.data.rows import batch_rows


@options
class FitOptions:
    """How a classifier is trained: by default AdamW with a one-cycle learning rate (Smith & Topin, 2019).

        published = FitOptions(20, 32, 0.01, 0.0, optimizer="sgd", one_cycle=False, validation=0.1)

    are those of arXiv 2301.08067, which takes Adam, with a rate of 0.001, for MobileNet.

    Attributes:
        epochs: passes over the training images; 0 leaves the weights as they are.
        batch_size: images per step.
        learning_rate: the cycle's maximum; without a cycle, that of every step.
        weight_decay: AdamW's; of the others an L2 penalty's.
        seed: decides the order of the images, and which are put aside.
        optimizer: ``adamw``, ``adam`` or ``sgd``, whose momentum is the cycle's, and none without a cycle.
        one_cycle: whether the learning rate rises and falls, or stays.
        validation: share of the training images that nothing is learned from: with some, the weights are
            those of the epoch with the lowest loss on them, else the last ones.
    """

    epochs: NonNegativeInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 4e-3
    weight_decay: NonNegativeFloat = 0.05
    seed: Seed = 0
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    one_cycle: bool = True
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0


OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}


def fit(
    classifier: Classifier,
    train: ImageSplit,
    options: FitOptions | None = None,
    folder: Path | None = None,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Train a classifier in place; it ends on the CPU and in eval mode.

        history = fit(cnn, data.train, FitOptions(epochs=8))

    Args:
        classifier: weights are updated in place.
        train: training images.
        options: schedule.
        folder: where a checkpoint is kept after every epoch; a call that finds one there goes on
            from it and ends with the same weights as an uninterrupted one. ``None`` keeps none.
        fabric: device and precision; by default a GPU if there is one.

    Returns:
        One row per epoch: ``epoch``, ``loss`` and ``accuracy`` on the training images, as they were seen, and
        with images put aside ``validation_loss`` and ``validation_accuracy`` after the epoch.

    Raises:
        ValueError: too few images to put some aside.
        FloatingPointError: the loss is no longer finite.
    """
    options, fabric = options or FitOptions(), fabric or make_fabric()
    learned, aside = _parts(train, options)  # rows
    classifier.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, schedule = _optimizer(classifier, len(learned), options)
    parts: dict[str, Any] = {"classifier": classifier, "optimizer": optimizer, "schedule": schedule}
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    checkpoint = None if folder is None else folder / "checkpoint.safetensors"
    if checkpoint is not None and checkpoint.is_file():
        try:
            state = load_checkpoint(checkpoint)
        except DamagedError as error:
            state = {"options": None}
            warnings.warn(f"training begins anew: {error}", stacklevel=2)
        if state["options"] == asdict(options):
            history, best = state["history"], state["best"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
    for epoch in progress(range(len(history), options.epochs), "training the CNN"):
        seed = 1000 * options.seed + epoch
        torch.manual_seed(seed)  # of dropout: the same after a resume
        rows = batch_rows(len(learned), options.batch_size, seed)
        batches = (train.batch(learned[own]) for own in rows)
        loss, right = _epoch(classifier, batches, optimizer, schedule, fabric)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of epoch {epoch + 1} is {loss}; a lower learning rate may help"
            )
        row = {"epoch": epoch + 1, "loss": loss / len(learned), "accuracy": right / len(learned)}
        if len(aside):
            row |= _measured(classifier, train, aside.split(options.batch_size), fabric)
            if row["validation_loss"] < min((own["validation_loss"] for own in history), default=math.inf):
                best = {name: own.detach().clone() for name, own in classifier.state_dict().items()}
        history.append(row)
        if checkpoint is not None:
            states = {name: part.state_dict() for name, part in parts.items()}
            about = {"history": history, "best": best, "options": asdict(options)}
            save_checkpoint(checkpoint, {**states, **about})
    if best:
        classifier.load_state_dict(best)
    classifier.to("cpu").eval()
    return pd.DataFrame(history, columns=None if history else ["epoch", "loss", "accuracy"])


def _parts(train: ImageSplit, options: FitOptions) -> tuple[Tensor, Tensor]:
    """Rows that are learned from, and those put aside, the classes of both in proportion."""
    count = round(options.validation * len(train))
    if options.validation > 0 and not 0 < count < len(train):
        raise ValueError(f"validation={options.validation} of {len(train)} images leaves too few")
    aside = train.sample(count, options.seed)
    is_learned = torch.ones(len(train), dtype=torch.bool)
    is_learned[aside] = False
    return is_learned.nonzero()[:, 0], aside


def _optimizer(cnn: Classifier, images: int, options: FitOptions) -> tuple[Optimizer, LRScheduler]:
    rate, decay = options.learning_rate, options.weight_decay
    kind: Any = OPTIMIZERS[options.optimizer]
    optimizer: Optimizer = kind(cnn.parameters(), lr=rate, weight_decay=decay)
    if not options.one_cycle:
        return optimizer, ConstantLR(optimizer, factor=1.0)
    steps = max(1, -(-images // options.batch_size) * options.epochs)
    return optimizer, OneCycleLR(optimizer, rate, total_steps=steps)


@torch.no_grad()
def _measured(
    cnn: Classifier, images: ImageSplit, batches: Sequence[Tensor], fabric: Fabric
) -> dict[str, float]:
    """Loss and accuracy on rows that are not learned from, given in batches."""
    total, right = torch.zeros(2, device=fabric.device)
    with evaluation_mode(cnn):
        for rows in batches:
            batch = images.batch(rows).to(fabric.device)
            with fabric.autocast():
                logits = cnn(batch.images.contiguous(memory_format=torch.channels_last))  # (B, K)
            total += F.cross_entropy(logits.float(), batch.labels, reduction="sum")
            right += (logits.argmax(1) == batch.labels).sum()
    count = sum(map(len, batches))
    return {"validation_loss": float(total) / count, "validation_accuracy": float(right) / count}


def _epoch(
    cnn: Classifier, batches: Iterable[Batch], optimizer: Optimizer, schedule: LRScheduler, fabric: Fabric
) -> tuple[float, float]:
    """Sum of the losses, and how many were right."""
    total, right = torch.zeros(2, device=fabric.device)
    cnn.train()
    for batch in batches:
        batch = batch.to(fabric.device)
        with fabric.autocast():
            logits = cnn(batch.images.contiguous(memory_format=torch.channels_last))  # (B, K)
        loss = F.cross_entropy(logits.float(), batch.labels)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        total += loss.detach() * len(batch.labels)
        right += (logits.argmax(1) == batch.labels).sum()
    return float(total), float(right)


def predictions(
    classifier: Classifier, split: ImageSplit, batch_size: int | None = None, fabric: Fabric | None = None
) -> pd.DataFrame:
    """What the classifier predicts for every image of a split.

    Args:
        classifier: left as it is.
        split: the images.
        batch_size: by default as many as go through the CNN in the least time.
        fabric: device and precision; by default a GPU if there is one.

    Returns:
        One row per image: ``image`` (row of the split), ``path`` (empty for images that were never
        files), ``label``, ``prediction`` (class numbers), ``probability`` (of the prediction, 0..1)
        and ``label_probability``.
    """
    fabric = fabric or make_fabric()
    home = next(classifier.parameters()).device
    classifier.to(fabric.device)
    few = at_once(classifier, split.image_size) if batch_size is None else batch_size
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluation_mode(classifier), torch.no_grad(), fabric.autocast():
        for rows in progress(list(batch_rows(len(split), few)), "predicting"):
            batch = split.batch(rows)
            probabilities = classifier.probabilities(
                classifier(batch.images.to(fabric.device))
            ).cpu()  # (B, K)
            of_label = probabilities.gather(1, batch.labels[:, None])[:, 0]  # (B,)
            parts.append((*probabilities.max(1), of_label))
    classifier.to(home)
    probability, prediction, label_probability = (
        torch.cat(column).numpy() for column in zip(*parts, strict=True)
    )
    return pd.DataFrame(
        {
            "image": range(len(split)),
            "path": split.paths or [""] * len(split),
            "label": split.labels.numpy(),
            "prediction": prediction,
            "probability": probability,
            "label_probability": label_probability,
        }
    )


def accuracy(table: pd.DataFrame) -> float:
    """Share of right predictions, 0..1, in a table of :func:`predictions`."""
    return float((table["label"] == table["prediction"]).mean())
