"""``gan-lib invert``: guided feature inversion of images, its pictures and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import cnn as shared
from gan_lib.cli.base import app
from gan_lib.cli.cnn import counted, warn
from gan_lib.cli.problems import FAILED, InputError, given

if TYPE_CHECKING:
    from gan_lib.workbench.inverted import Inverted


@app.command()
def invert(
    photos: shared.Photos,
    model: shared.Model = "slim_vgg",
    weights: shared.Weights = None,
    classes: shared.Classes = None,
    image_size: shared.ImageSize = None,
    mean: shared.Mean = None,
    std: shared.Std = None,
    output: shared.Output = None,
    select: shared.Select = None,
    span: shared.Span = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class that step 2 asks for, by name or number; by default the predicted."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Whose channels masks are made of; by default the last hidden one with places."),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Step 2 with the settings of the paper, made for VGG19.")
    ] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Folder of annotations (Pascal VOC, ImageNet: XML): adds the IoU of the boxes."),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0, max=100, help="Threshold of a mask's box, in means of the mask.")
    ] = 1.0,
    out: Annotated[Path, typer.Option(help="Folder that receives pictures and tables.")] = Path("inverted"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what such a run has written to the folder.")
    ] = False,
    device: shared.Device = "auto",
    root: shared.Project = None,
) -> None:
    """Guided feature inversion: what of an image brings back the CNN's features, and what speaks for a class.

    For every image a heat map, the mask, the background mask, the blurred image and the mask of the class.
    """
    asked = shared.AskedCNN(model, weights, classes, image_size, mean, std, output, select, span, device)

    from gan_lib.core.runtime import make_fabric
    from gan_lib.workbench import inverted as work
    from gan_lib.workbench.explain import resolve_class

    with given():
        found = work.photos_to_invert(photos, out)
        make_fabric(device)  # whether there is such a device
        if (out / work.TABLE).is_file() and not overwrite:
            raise InputError(f"{out / work.TABLE} is there already: take another folder, or --overwrite it")
    with given("--boxes", boxes):
        annotated = None if boxes is None else work.annotations_of(boxes, found)
    with shared.writable(out):
        cnn, size = asked.load(root and root.resolve() / "data" / "pretrained")
        with given():
            how = work.Inverting(
                size, resolve_class(cnn, target), alpha, layer, second=work.SECOND[published]
            )
            work.check_layer(cnn, how)
        (out / work.TABLE).unlink(missing_ok=True)
        (out / work.BOXES).unlink(missing_ok=True)
        made = work.invert_images(found, cnn, how, out, annotated, warn)
        if not made.rows:
            warn(f"error: nothing was inverted, {counted(made.skipped)} skipped")
            raise typer.Exit(FAILED)
        _tell(made, out, alpha)


def _tell(made: Inverted, out: Path, alpha: float) -> None:
    """What was done, where it lies, and how well boxes fit."""
    import pandas as pd

    from gan_lib.workbench.inverted import BOXES, PICTURES, TABLE, box_table

    skipped = f", {made.skipped} skipped" if made.skipped else ""
    typer.echo(f"{counted(len(made.rows))} inverted{skipped}")
    typer.echo(f"table: {out / TABLE}")
    typer.echo(f"pictures: {', '.join(str(out / name) for name in PICTURES)}")
    if not made.iou:
        return
    rows = box_table(pd.concat(made.iou)).to_dict("records")
    shown = [("asked", row) for row in rows if row["alpha"] == alpha]
    for what, row in [*shown, ("best on these images", max(rows, key=lambda row: row["iou"]))]:
        interval = f"{row['iou']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        typer.echo(f"IoU of {int(row['n'])} boxes at {row['alpha']:g} means ({what}): {interval}")
    typer.echo(f"thresholds: {out / BOXES}")
