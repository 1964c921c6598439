"""``gan-lib predictions`` and ``gan-lib concepts``: for folders of any size, streamed from files to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_lib.cli import cnn as shared
from gan_lib.cli.base import Outside, app, import_outside
from gan_lib.cli.cnn import counted, warn
from gan_lib.cli.problems import InputError, given

MENDED = (ValueError, KeyError, FileNotFoundError)  # what lies with what was given
RELEVANCES = "deep_lift, gradient_x_activation, grad_cam, integrated_gradients"


@app.command()
def predictions(
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
    out: Annotated[Path, typer.Option(help="Table that is written, a CSV file.")] = Path("predictions.csv"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a table that is there already.")
    ] = False,
    device: shared.Device = "auto",
    outside: Outside = None,
    root: shared.Project = None,
) -> None:
    """List what a CNN predicts for images: a row each, with the class, its probability and the runner-up.

    Folders named after classes say which class their images are of. The table is written whole or not at all.
    """
    asked = shared.AskedCNN(model, weights, classes, image_size, mean, std, output, select, span, device)
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: give a file")
    if out.exists() and not overwrite:
        raise InputError(f"--out {out} is there already: take another file, or --overwrite")

    from gan_lib.core.runtime import make_fabric
    from gan_lib.reporting.atlas import write_predictions
    from gan_lib.workbench.explain import find_photos

    with given():
        found = find_photos(photos, out.parent / f".{out.name}")
        import_outside(outside or (), *shared.project(root))
        make_fabric(device)
    with shared.writable(out.parent):
        cnn, size = asked.load(root and root.resolve() / "data" / "pretrained")
        with given(kinds=MENDED):
            count = write_predictions(cnn, found, size, out, warn)
    left = f", {counted(len(found) - count)} skipped" if count < len(found) else ""
    typer.echo(f"{counted(count)} predicted{left}")
    typer.echo(f"table: {out}")


@app.command()
def concepts(
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
    layer: Annotated[
        str | None,
        typer.Option(help="Name of a layer; by default the last with places."),
    ] = None,
    components: Annotated[int, typer.Option(min=1, help="Concepts of each class.")] = 6,
    prototypes: Annotated[int, typer.Option(min=1, max=24, help="Crops of each concept.")] = 8,
    images: Annotated[int, typer.Option(min=1, help="At most so many images of a class to learn from.")] = 60,
    relevance: Annotated[
        str, typer.Option(help=f"How much a place of the layer matters: {RELEVANCES}.")
    ] = "gradient_x_activation",
    copies: Annotated[
        int, typer.Option(min=0, help="Noisy copies of every image for that; 20 as published.")
    ] = 0,
    pooling: Annotated[
        int, typer.Option(min=1, help="Side of a crop, in places of the layer; 2 as published.")
    ] = 2,
    test: Annotated[bool, typer.Option("--test", help="Do the prediction test as well.")] = False,
    note: Annotated[str, typer.Option(help="A sentence that stands on every page and in the index.")] = "",
    out: Annotated[Path, typer.Option(help="Folder that receives pages, index, tables, vectors.")] = Path(
        "concepts"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an atlas of other settings in the folder.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of every choice.")] = 0,
    device: shared.Device = "auto",
    outside: Outside = None,
    root: shared.Project = None,
) -> None:
    """Show the concepts of all classes that a CNN predicts: a page for each, an index, tables, the vectors.

    The same command after an interruption goes on where it was.
    """
    asked = shared.AskedCNN(model, weights, classes, image_size, mean, std, output, select, span, device)

    from gan_lib.core.runtime import make_fabric
    from gan_lib.reporting.atlas import AtlasOptions, atlas_photos, write_atlas

    with given():
        found = atlas_photos(photos, out)
        import_outside(outside or (), *shared.project(root))
        make_fabric(device)
    chosen = AtlasOptions(
        layer=layer,
        components=components,
        prototypes=prototypes,
        images_per_class=images,
        relevance=relevance,
        noise_copies=copies,
        pooling=pooling,
        seed=seed,
        test=test,
        note=note,
    )
    with shared.writable(out):
        cnn, size = asked.load(root and root.resolve() / "data" / "pretrained")
        try:
            with given(kinds=MENDED):
                index = write_atlas(cnn, found, size, out, chosen, overwrite=overwrite, tell=warn)
        except KeyboardInterrupt:
            warn(f"what is made so far stays in {out}; the same command goes on")
            raise
    typer.echo(f"index: {index}")
