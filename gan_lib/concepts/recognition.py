"""Whether another CNN sees in a drawn picture what it was drawn for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.concepts.layers import probabilities


def recognition_test(
    judges: Mapping[str, nn.Module], pictures: Tensor, classes: Sequence[int]
) -> pd.DataFrame:
    """What CNNs predict for pictures that were drawn with the help of another one.

        recognition_test({"SqueezeNet": squeezenet}, drawing.concepts(vectors).pictures, [0, 217])

    A picture that pleases the CNN it was drawn with tells nothing: nearly any noise can be made to. What
    stands for the class to a CNN that had no part in it is no such accident.

    Args:
        judges: CNNs by name, of the same classes, from images in [0, 1] to logits.
        pictures: (V, 3, H, W) in [0, 1].
        classes: of each picture (V,).

    Returns:
        A row per judge and picture: ``judge``, ``picture`` (its place), ``class``, ``prediction``,
        ``probability`` of the class; ``won`` where the class has the highest probability, and ``won_among``
        where it has the highest of the classes drawn.

    Raises:
        ValueError: no judge, no picture, pictures and classes of another number, or a class that a judge
            does not have.
    """
    labels = torch.tensor(classes, dtype=torch.long)
    if not judges or not len(labels) or len(labels) != len(pictures):
        raise ValueError(f"{len(judges)} judges, {len(pictures)} pictures and {len(labels)} classes")
    drawn = labels.unique()  # (K,)
    tables = []
    for name, judge in judges.items():
        chances = probabilities(judge, pictures)  # (V, classes)
        if not 0 <= int(drawn.min()) <= int(drawn.max()) < chances.shape[1]:
            raise ValueError(
                f"{name} has classes 0 to {chances.shape[1] - 1}, the pictures are of {drawn.tolist()}"
            )
        prediction = chances.argmax(1)
        columns = {
            "class": labels,
            "prediction": prediction,
            "probability": chances.gather(1, labels[:, None])[:, 0].double(),
            "won": prediction == labels,
            "won_among": drawn[chances[:, drawn].argmax(1)] == labels,
        }
        values = {column: own.numpy() for column, own in columns.items()}
        tables.append(pd.DataFrame({"judge": name, "picture": range(len(labels)), **values}))
    return pd.concat(tables, ignore_index=True)
