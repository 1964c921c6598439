"""``gan-lib report``: images and a CNN in; one page that says what the CNN relies on out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import cnn as shared
from gan_lib.cli.base import Outside, app, import_outside
from gan_lib.cli.cnn import warn
from gan_lib.cli.problems import FAILED, given

if TYPE_CHECKING:
    from gan_lib.api import Classifier, Explainer
    from gan_lib.data import ImageSplit


@app.command()
def report(
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
    method: Annotated[
        str | None,
        typer.Option(help="The method that the report is about; by default universal_lsft, for any CNN."),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train", help="Train a generator for this CNN on the photos first, and report on its maps."
        ),
    ] = False,
    recipe: Annotated[
        str, typer.Option(help="With --train: the profile, or its file, that says how it is trained.")
    ] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder that receives the report.")] = Path("report"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report of other settings in the folder.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of every choice of images.")] = 0,
    device: shared.Device = "auto",
    outside: Outside = None,
    root: shared.Project = None,
) -> None:
    """Write one page: what a CNN relies on, in pictures and tables, and whether its maps can be trusted.

    Folders named after classes say which class their images are of. The same command after an interruption
    goes on where it was.
    """
    asked = shared.AskedCNN(model, weights, classes, image_size, mean, std, output, select, span, device)

    from gan_lib.api import BESIDE, METHODS, is_said
    from gan_lib.core.runtime import make_fabric
    from gan_lib.reporting import read_split, write_report
    from gan_lib.workbench.explain import find_photos

    with given():
        found = find_photos(photos, out)
        import_outside(outside or (), *shared.project(root))
        methods = [METHODS.name(method)] if method else []
        make_fabric(device)
    with shared.writable(out):
        pretrained = root and root.resolve() / "data" / "pretrained"
        cnn, size = asked.load(pretrained)
        with given():
            split, skipped = read_split(found, cnn, size)
        for name, why in skipped:
            warn(f"skipped {name}: {why}")
        with given():
            explainers = _trained(cnn, split, recipe, out) if train else {}
            explainers |= shared.make_explainers(cnn, methods, pretrained, size, BESIDE)
        command = shlex.join(["gan-lib", *sys.argv[1:]])
        options = {"said": is_said(cnn, output), "command": command, "overwrite": overwrite, "seed": seed}
        try:
            with given():
                written = write_report(cnn, split, explainers, out, skipped, tell=warn, **options)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            warn(f"what is made so far stays in {out}; the same command goes on")
            raise
    for own in written.lead:
        typer.echo(f"- {own}")
    typer.echo(f"report: {written.page}")
    if written.failed:
        warn(f"error: {len(written.failed)} parts could not be made; the page says which, and why")
        raise typer.Exit(FAILED)


def _trained(cnn: Classifier, split: ImageSplit, recipe: str, out: Path) -> dict[str, Explainer]:
    """A generator trained for the CNN on its images; a run that was interrupted goes on."""
    from gan_lib.api import train_explainer

    warn(f"training a generator for this CNN on {len(split)} images")
    own = train_explainer(cnn, split, recipe, out / "kept" / "training")
    return {own.name: own}
