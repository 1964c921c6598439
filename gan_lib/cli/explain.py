"""``gan-lib explain``: images, a CNN and methods in; maps, a table and contact sheets out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import cnn as shared
from gan_lib.cli.base import Outside, app, import_outside
from gan_lib.cli.cnn import BESIDE, USUAL, counted, warn
from gan_lib.cli.problems import FAILED, InputError, given

if TYPE_CHECKING:
    from gan_lib.workbench.explain import Counts
    from gan_lib.workbench.explained import ExplanationFolder

# Named in the help, which must be there before the registry is.
METHODS = (
    "saliency, input_x_gradient, integrated_gradients, smoothgrad, deep_lift, gradient_shap, "
    "expected_gradients, lrp, guided_backprop, grad_cam, evidence_projection, grad_cam_plus_plus, layer_cam, "
    "xgrad_cam, eigen_cam, score_cam, guided_grad_cam, occlusion, feature_ablation, rise, "
    "guided_feature_inversion, guided_feature_inversion_step_1, edges, random, lsft, gsft, contrastive_lsft, "
    "contrastive_gsft, universal_lsft, universal_gsft"
)


@app.command()
def explain(
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
        list[str] | None,
        typer.Option(
            help=f"Repeatable; {BESIDE} is added. By default {USUAL}, for any CNN. There are {METHODS}."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class to be explained, by name or number; by default the predicted.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that receives maps, table and sheets.")] = Path("outputs"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the folder has, instead of adding to it.")
    ] = False,
    device: shared.Device = "auto",
    outside: Outside = None,
    root: shared.Project = None,
) -> None:
    """Explain images: maps, overlays, a table and contact sheets, by methods and, beside them, Grad-CAM.

    A second run into the same folder adds images and methods that are not there yet.
    """
    asked_cnn = shared.AskedCNN(model, weights, classes, image_size, mean, std, output, select, span, device)

    from gan_lib.core.runtime import make_fabric
    from gan_lib.workbench import explain as work
    from gan_lib.workbench.explained import TABLE, ExplanationFolder

    with given():
        found = work.find_photos(photos, out)
        import_outside(outside or (), *shared.project(root))
        methods = _methods(method or ())
        make_fabric(device)  # whether there is such a device
    with shared.writable(out):
        pretrained = root and root.resolve() / "data" / "pretrained"
        cnn, size = asked_cnn.load(pretrained)
        with given():
            asked = work.resolve_class(cnn, target)
            explainers = shared.make_explainers(cnn, methods, pretrained, size)
            versions = {name: work.version_of(own) for name, own in explainers.items()}
            settings = work.settings_of(cnn, size, asked) | {"model": model}
            folder = ExplanationFolder(out, settings, versions, overwrite)
        try:
            counts = work.explain_images(found, cnn, explainers, size, folder, asked, warn=warn)
        except BaseException:
            if (out / TABLE).is_file():
                warn(f"what is explained so far stays in {out}; the same command goes on")
            raise
        if not counts.explained + counts.known:
            warn(f"error: nothing was explained, {counted(counts.skipped)} skipped")
            raise typer.Exit(FAILED)
        _tell(folder, counts)
        if counts.unwritten:
            warn(f"error: {counted(counts.unwritten)} could not be written; the same command tries again")
            raise typer.Exit(FAILED)


def _methods(asked: Sequence[str]) -> list[str]:
    """Methods by their registered names."""
    from gan_lib.api import METHODS as REGISTERED

    names = [REGISTERED.name(name) for name in asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--method {twice[0]} is given twice")
    return names


def _tell(folder: ExplanationFolder, counts: Counts) -> None:
    """What was done, and where it lies."""
    from gan_lib.workbench.contact_sheet import PAGES, ROWS, contact_sheets
    from gan_lib.workbench.explained import INPUTS, TABLE

    known = f", {counts.known} there before" if counts.known else ""
    skipped = f", {counts.skipped} skipped" if counts.skipped else ""
    typer.echo(f"{counted(counts.explained)} explained{known}{skipped}")
    drawn = ROWS * PAGES  # images
    pages = contact_sheets(folder.rows(drawn * len(folder.methods)), folder.methods, folder.path)
    more = f" to {pages[-1].name}" if len(pages) > 1 else ""
    more += f", the first {drawn} images" if folder.images > drawn else ""
    typer.echo(f"table: {folder.path / TABLE}")
    typer.echo(f"contact sheet: {pages[0]}{more}")
    typer.echo(f"folders: {', '.join(str(folder.path / name) for name in (INPUTS, *folder.methods))}")
