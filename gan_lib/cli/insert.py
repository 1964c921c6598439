"""``gan-lib insert``: a crop, images and a CNN in; what the CNN says of two classes before and after out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import cnn as shared
from gan_lib.cli import values
from gan_lib.cli.base import app, import_outside
from gan_lib.cli.cnn import counted, warn
from gan_lib.cli.problems import FAILED, InputError, given

if TYPE_CHECKING:
    import pandas as pd

NAMES = "--class-names"  # --classes are the two that are asked about


@app.command()
def insert(
    crop: Annotated[
        Path, typer.Option(help="What is pasted: an image file; what is transparent in it stays so.")
    ],
    into: Annotated[
        list[Path], typer.Option(help="Images of the other class, or folders of them; repeatable.")
    ],
    classes: Annotated[
        str,
        typer.Option(
            help="A,B by name or number: the class that the crop should speak for, and that of the images."
        ),
    ],
    model: shared.Model = "slim_vgg",
    weights: shared.Weights = None,
    class_names: Annotated[
        str | None, typer.Option(NAMES, help="Names of all classes: a file with one a line, or a,b,c.")
    ] = None,
    image_size: shared.ImageSize = None,
    mean: shared.Mean = None,
    std: shared.Std = None,
    output: shared.Output = None,
    select: shared.Select = None,
    span: shared.Span = None,
    size: Annotated[
        float | None,
        typer.Option(
            help="Longer side of the crop, as a share of the image's shorter one; by default its own pixels, "
            "in the image as the CNN sees it."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="X,Y: where its left upper corner comes to lie; by default where it hides the least of the "
            "predicted class's Grad-CAM."
        ),
    ] = None,
    control: Annotated[
        str, typer.Option(help="Colour pasted instead: black, or mean, which the CNN takes for 0.")
    ] = "black",
    out: Annotated[Path, typer.Option(help="Folder that receives pictures and tables.")] = Path("inserted"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an insertion that is in the folder.")
    ] = False,
    device: shared.Device = "auto",
    root: shared.Project = None,
) -> None:
    """Paste a crop into images, and a plain patch as a control: does what it shows speak for a class?

    The table holds the mean probabilities of both classes before and after, with 95 % intervals.
    """
    asked_cnn = shared.AskedCNN(
        model, weights, class_names, image_size, mean, std, output, select, span, device, NAMES
    )
    names, place = values.two_classes(classes), values.point(at, "--at")

    from gan_lib.core.runtime import make_fabric
    from gan_lib.workbench import insert as work
    from gan_lib.workbench.explain import resolve_class

    if control not in work.CONTROLS:
        raise InputError(f"--control {control}: give {' or '.join(work.CONTROLS)}")
    if size is not None and not 0 < size <= 1:
        raise InputError(f"--size {size:g}: give a share of the image's shorter side, above 0 and at most 1")
    with given():
        photos = work.photos_into(into, out)
        make_fabric(device)  # whether there is such a device
        if not out.is_file():
            work.check_out(out, overwrite)
        import_outside((), *shared.project(root))
    with given("--crop", crop):
        work.crop_of(crop, (values.LARGEST, values.LARGEST))  # before the CNN is loaded
    with shared.writable(out):
        cnn, seen = asked_cnn.load(root and root.resolve() / "data" / "pretrained")
        with given():
            one, other = (resolve_class(cnn, name) for name in names)
            if one is None or other is None or one == other:
                raise InputError(
                    f"--classes {classes}: give two classes, both are {cnn.class_names[one or 0]!r}"
                )
            pasted = work.crop_of(crop, seen, size)
            asked = work.Insertion(pasted, one, other, control, place)
        with given(kinds=(ValueError,)):
            table = work.insert_into(photos, cnn, seen, asked, out, warn)
        if table.empty:
            warn(f"error: nothing was inserted, {counted(len(photos))} skipped")
            raise typer.Exit(FAILED)
    _tell(table, pasted.shape[1:], len(photos), out)


def _tell(table: pd.DataFrame, sides: tuple[int, ...], photos: int, out: Path) -> None:
    """The table to be read, and where all lies."""
    from gan_lib.workbench.insert import PICTURES, ROWS, SUMMARY

    skipped = photos - int((table["n"] + table["skipped"]).max())
    typer.echo(
        f"a crop of {sides[0]}x{sides[1]} pixels in {counted(photos - skipped)}"
        + (f", {skipped} skipped" if skipped else "")
    )
    words = [f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in table.itertuples(name="Row")]
    wide = table.assign(words=words).pivot(index="what", columns="class", values="words")
    shown = wide.loc[table["what"].unique(), table["class"].unique()]
    typer.echo(shown.rename_axis(index=None, columns=None).to_string())
    typer.echo(f"table: {out / SUMMARY}")
    typer.echo(f"a row per image: {out / ROWS}")
    typer.echo(f"folders: {', '.join(str(out / name) for name in PICTURES)}")
