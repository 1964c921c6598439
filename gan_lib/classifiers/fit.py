"""Training a classifier, and the table of what it predicts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from gan_lib.classifiers.wrap import Classifier
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.options import Seed, options
from gan_lib.core.runtime import make_fabric, progress
from gan_lib.core.storage import load_checkpoint, save_checkpoint
from gan_lib.data import Batch, ImageSplit
from gan_lib.data.rows import batch_rows


@options
class FitOptions:
    """How a classifier is trained: AdamW with a one-cycle learning rate.

    Attributes:
        epochs: passes over the training images; 0 leaves the weights as they are.
        batch_size: images per step.
        learning_rate: the cycle's maximum.
        weight_decay: of AdamW.
        seed: decides the order of the images.
    """

    epochs: NonNegativeInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 4e-3
    weight_decay: NonNegativeFloat = 0.05
    seed: Seed = 0


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
        One row per epoch: ``epoch``, ``loss`` and ``accuracy`` on the training images, as they were seen.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    options, fabric = options or FitOptions(), fabric or make_fabric()
    classifier.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rate = options.learning_rate
    optimizer = AdamW(classifier.parameters(), lr=rate, weight_decay=options.weight_decay)
    steps = max(1, -(-len(train) // options.batch_size) * options.epochs)
    schedule = OneCycleLR(optimizer, rate, total_steps=steps)
    parts: dict[str, Any] = {"classifier": classifier, "optimizer": optimizer, "schedule": schedule}
    history: list[dict[str, float]] = []
    checkpoint = None if folder is None else folder / "checkpoint.safetensors"
    if checkpoint is not None and checkpoint.is_file():
        state = load_checkpoint(checkpoint)
        if state["options"] == asdict(options):
            history = state["history"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
    for epoch in progress(range(len(history), options.epochs), "training the CNN"):
        seed = 1000 * options.seed + epoch
        torch.manual_seed(seed)  # of dropout: the same after a resume
        batches = train.batches(options.batch_size, shuffle_seed=seed)
        loss, right = _epoch(classifier, batches, optimizer, schedule, fabric)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of epoch {epoch + 1} is {loss}; a lower learning rate may help"
            )
        history.append({"epoch": epoch + 1, "loss": loss / len(train), "accuracy": right / len(train)})
        if checkpoint is not None:
            states = {name: part.state_dict() for name, part in parts.items()}
            save_checkpoint(checkpoint, {**states, "history": history, "options": asdict(options)})
    classifier.to("cpu").eval()
    return pd.DataFrame(history, columns=["epoch", "loss", "accuracy"])


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
    classifier: Classifier, split: ImageSplit, batch_size: int = 128, fabric: Fabric | None = None
) -> pd.DataFrame:
    """What the classifier predicts for every image of a split.

    Returns:
        One row per image: ``image`` (row of the split), ``path`` (empty for images that were never
        files), ``label``, ``prediction`` (class numbers), ``probability`` (of the prediction, 0..1)
        and ``label_probability``.
    """
    fabric = fabric or make_fabric()
    home = next(classifier.parameters()).device
    classifier.to(fabric.device)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluation_mode(classifier), torch.no_grad(), fabric.autocast():
        for rows in progress(list(batch_rows(len(split), batch_size)), "predicting"):
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
