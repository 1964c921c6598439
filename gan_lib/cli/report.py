"""``gan-lib report``: images and a CNN in; one page that says what the CNN relies on out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import cnn as shared
from gan_lib.cli.base import Outside, app, import_outside
from gan_lib.cli.cnn import counted, warn
from gan_lib.cli.problems import FAILED, given

if TYPE_CHECKING:
    from gan_lib.api import Explainer

MENDED = (ValueError, FileNotFoundError)  # what lies with what was given


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
    from gan_lib.api.reports import recipe_named, train_for_report
    from gan_lib.core.runtime import make_fabric
    from gan_lib.reporting import check_folder, photos_of, read_split, write_report

    with given():
        found = photos_of(photos, out)
        import_outside(outside or (), *shared.project(root))
        methods = [METHODS.name(method)] if method else []
        make_fabric(device)
        chosen = recipe_named(recipe, root) if train else None
    with shared.writable(out):
        pretrained = root and root.resolve() / "data" / "pretrained"
        cnn, size = asked.load(pretrained)
        with given():
            split, skipped = read_split(found, cnn, size)
            explainers = shared.make_explainers(cnn, methods, pretrained, size, BESIDE)
        for name, why in skipped:
            warn(f"skipped {name}: {' '.join(why.split())}")
        command, said = shlex.join(["gan-lib", *sys.argv[1:]]), is_said(cnn, output)
        try:
            with given(kinds=MENDED):
                own: dict[str, Explainer] = {}
                if chosen is not None:
                    if not overwrite:
                        check_folder(cnn, split, out, skipped, said=said, seed=seed)
                    warn(f"training a generator for this CNN on {counted(len(split))}")
                    with shared.notices():
                        trained = train_for_report(cnn, split, chosen, out, overwrite)
                    own[trained.name] = trained
                written = write_report(
                    cnn,
                    split,
                    own | {**explainers, **own},
                    out,
                    skipped,
                    said=said,
                    command=command,
                    overwrite=overwrite,
                    seed=seed,
                    tell=warn,
                )
        except KeyboardInterrupt:
            warn(f"what is made so far stays in {out}; the same command goes on")
            raise
    for sentence in written.lead:
        typer.echo(f"- {' '.join(sentence.split())}")
    typer.echo(f"report: {written.page}")
    if written.failed:
        warn(f"error: not made: {', '.join(written.failed)}; the page says why")
        raise typer.Exit(FAILED)
