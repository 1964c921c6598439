"""CNNs trained on planted shortcuts, and how far they follow them; each takes a few minutes on one thread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lib.classifiers import (
    Classifier,
    accuracy,
    fit,
    load_classifier,
    make_classifier,
    predictions,
    save_classifier,
)
from gan_lib.classifiers.files import WEIGHTS
from gan_lib.core.runtime import make_fabric, threads
from gan_lib.core.storage import write_json
from gan_lib.data.planted import Planted, planted_shortcut
from gan_lib.workbench.recipes import Recipe

TRAIN, TEST, SIZE, SEED = 3000, 500, 64, 0
EPOCHS = {"watermark": 10, "frame": 6, "offset": 12, "texture": 6}
RESULTS = "planted.json"


def planted_data(kind: str) -> Planted:
    """The data that :func:`planted_cnn` trains on, and their test splits."""
    return planted_shortcut(kind, TRAIN, TEST, SIZE, SEED)


def planted_cnn(kind: str, architecture: str, folder: Path) -> Classifier:
    """A CNN that was trained on a planted shortcut: read from ``folder/kind/architecture``, or trained with
    the project's own recipe and saved there, with what :func:`followed` says of it.

        cnn = planted_cnn("frame", "slim_vgg", Path("data/planted"))

    Args:
        kind: one of :data:`gan_lib.data.planted.SHORTCUTS`.
        architecture: name of a CNN, as :func:`gan_lib.classifiers.make_classifier` takes it.
        folder: of all of them.
    """
    home = Path(folder) / kind / architecture
    if (home / WEIGHTS).is_file():
        return load_classifier(home, architecture=architecture)
    planted = planted_data(kind)
    options = replace(Recipe().cnn, architecture=architecture, epochs=EPOCHS[kind])
    with threads(1):
        cnn = make_classifier(architecture, planted.data.class_names, seed=0)
        history = fit(cnn, planted.data.train, options, fabric=make_fabric("cpu", "32-true"))
        cnn = Classifier(cnn.backbone, replace(cnn.card, image_size=planted.data.train.image_size)).eval()
        about = {"kind": kind, "architecture": architecture, "epochs": options.epochs, "train_images": TRAIN}
        learned = {"train": round(float(history["accuracy"].iloc[-1]), 4)}
        write_json(home / RESULTS, {**about, **learned, **followed(cnn, planted)})
    save_classifier(cnn, home)
    return cnn


def followed(cnn: Classifier, planted: Planted) -> dict[str, Any]:
    """How far a CNN goes by the shortcut instead of the digit.

    Returns:
        ``accuracy`` on ``test``, ``right`` and ``conflict``, 0..1; ``followed``: the share of conflict images
        that are predicted as the class whose shortcut they carry; ``clean``: the share of them predicted as
        that class without carrying it, which is what chance is here.
    """
    fabric = make_fabric("cpu", "32-true")
    tables = {
        name: predictions(cnn, planted.data[name], fabric=fabric) for name in ("test", "right", "conflict")
    }
    carried = planted.carried["conflict"].numpy()
    follows = {name: float((tables[name]["prediction"] == carried).mean()) for name in ("conflict", "test")}
    return {
        "accuracy": {name: round(accuracy(table), 4) for name, table in tables.items()},
        "followed": round(follows["conflict"], 4),
        "clean": round(follows["test"], 4),
    }
