"""``gan-lib explain``: images, a CNN and methods in; maps, a table and contact sheets out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import values
from gan_lib.cli.base import Outside, app, import_outside
from gan_lib.cli.problems import FAILED, InputError, given, in_one_line

if TYPE_CHECKING:
    from gan_lib.api import Classifier, Explainer
    from gan_lib.workbench.explain import Counts
    from gan_lib.workbench.explained import ExplanationFolder

USUAL, BESIDE = "universal_lsft", "grad_cam"  # the method by default, and the one beside others
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
    photos: Annotated[list[Path], typer.Argument(help="Images, or folders that are searched for them.")],
    model: Annotated[
        str,
        typer.Option(
            help="A shipped CNN, the folder of a saved one, torchvision's name, package.module:factory or "
            "file.py:factory."
        ),
    ] = "slim_vgg",
    weights: Annotated[
        str | None, typer.Option(help="The CNN's weights: a file, or torchvision's by name.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes: a file with one a line, or a,b,c.")
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(help="Pixels at which the CNN sees images, 224 or HEIGHTxWIDTH; by default as trained."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Per channel, r,g,b in [0, 1]; by default ImageNet's.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="What the CNN's outputs mean: logits, probabilities, multi_label, "
            "multi_label_probabilities, binary, binary_probability or regression."
        ),
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="Which of several outputs: its place, key or field.")
    ] = None,
    span: Annotated[
        str | None, typer.Option(help="Lowest and highest value of a regression, for instance 0,10.")
    ] = None,
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    outside: Outside = None,
    root: Annotated[
        Path | None, typer.Option(help="The project; by default the one around the working directory.")
    ] = None,
) -> None:
    """Explain images: maps, overlays, a table and contact sheets, by methods and, beside them, Grad-CAM.

    A second run into the same folder adds images and methods that are not there yet.
    """
    size, channels = values.image_size(image_size), values.three_numbers(mean, "--mean")
    deviations = values.three_numbers(std, "--std", above=0)
    names, place, bounds = values.class_names(classes), values.place(select), values.span(span)

    from gan_lib import api
    from gan_lib.core.runtime import make_fabric
    from gan_lib.workbench import explain as work
    from gan_lib.workbench.explained import TABLE, ExplanationFolder

    with given():
        found = work.find_photos(photos, out)
        import_outside(outside or (), *_project(root))
        methods = _methods(method or ())
        make_fabric(device)  # whether there is such a device
    with _writable(out):
        pretrained = root and root.resolve() / "data" / "pretrained"
        with given("--model", model), _notices():
            cnn = api.load_cnn(
                model,
                weights,
                device,
                pretrained,
                class_names=names,
                image_size=size,
                mean=channels,
                std=deviations,
                output=output,
                select=place,
                span=bounds,
            )
            size = size or api.image_size(cnn, pretrained)
        with given(f"--model {model}, images of", f"{size[0]}x{size[1]} pixels"):
            _try(cnn, size)
        with given():
            asked = work.resolve_class(cnn, target)
            explainers = _explainers(cnn, methods, pretrained, size)
            versions = {name: work.version_of(own) for name, own in explainers.items()}
            settings = work.settings_of(cnn, size, asked) | {"model": model}
            folder = ExplanationFolder(out, settings, versions, overwrite)
        try:
            counts = work.explain_images(found, cnn, explainers, size, folder, asked, warn=_warn)
        except BaseException:
            if (out / TABLE).is_file():
                _warn(f"what is explained so far stays in {out}; the same command goes on")
            raise
        if not counts.explained + counts.known:
            _warn(f"error: nothing was explained, {_counted(counts.skipped)} skipped")
            raise typer.Exit(FAILED)
        _tell(folder, counts)


def _warn(text: str) -> None:
    from tqdm.std import tqdm  # which draws its bar again below the line

    tqdm.write(text, file=sys.stderr)


@contextmanager
def _notices() -> Iterator[None]:
    """What is warned of within the block is told in a line each."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        yield
    for one in told:
        if issubclass(one.category, UserWarning):
            _warn(f"notice: {one.message}")


def _project(root: Path | None) -> list[Path]:
    """The folder of the project, if there is one."""
    from gan_lib.workbench import Places

    if root:
        return [root.resolve()]
    try:
        return [Places.find().notebooks.parent]
    except FileNotFoundError:
        return []


def _methods(asked: Sequence[str]) -> list[str]:
    """Methods by their registered names."""
    from gan_lib.api import METHODS as REGISTERED

    names = [REGISTERED.name(name) for name in asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--method {twice[0]} is given twice")
    return names


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    """A folder that can be written to; if nothing comes to lie there, it is taken away again."""
    made = [path for path in (out, *out.parents) if not path.exists()]
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    probe = out / f".{out.name}.probe"
    try:
        with given("--out", out):
            out.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        yield
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _try(cnn: Classifier, size: tuple[int, int]) -> None:
    """Whether the CNN takes images of this size, and gives a score per class."""
    import torch

    with torch.no_grad():
        shape = tuple(cnn(torch.zeros(1, 3, *size, device=cnn.mean.device)).shape)
    if len(shape) != 2:
        raise InputError(f"the CNN gives {shape} for one image, not a score per class, (1, K)")


def _explainers(
    cnn: Classifier, methods: Sequence[str], pretrained: Path | None, size: tuple[int, int]
) -> dict[str, Explainer]:
    """Explainers by method: those asked for, or the usual one; and Grad-CAM where the CNN has its layer."""
    from gan_lib import api

    asked = methods or [USUAL]
    made: dict[str, Explainer] = {}
    for name in dict.fromkeys([*asked, BESIDE]):
        try:
            own = api.explainer(name, cnn, pretrained).to(cnn.mean.device)
            made[name] = own.prepare(size) if isinstance(own, api.UniversalExplainer) else own
        except (KeyError, ValueError) as error:
            if name in methods:
                raise
            _warn(f"without {name}: {in_one_line(error)}")
            continue
        trained_at = size if api.METHODS[name].travels else getattr(made[name], "image_size", size)
        if tuple(trained_at) != size:
            before, now = ("x".join(map(str, sides)) for sides in (trained_at, size))
            _warn(f"{name} was trained at {before} pixels and explains at the CNN's {now}")
    if not made:
        raise InputError("no method is left that explains this CNN: name one by --method")
    return made


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _tell(folder: ExplanationFolder, counts: Counts) -> None:
    """What was done, and where it lies."""
    from gan_lib.workbench.contact_sheet import contact_sheets
    from gan_lib.workbench.explained import INPUTS, TABLE

    known = f", {counts.known} there before" if counts.known else ""
    skipped = f", {counts.skipped} skipped" if counts.skipped else ""
    typer.echo(f"{_counted(counts.explained)} explained{known}{skipped}")
    pages = contact_sheets(folder.rows(), folder.methods, folder.path)
    more = f" to {pages[-1].name}" if len(pages) > 1 else ""
    typer.echo(f"table: {folder.path / TABLE}")
    typer.echo(f"contact sheet: {pages[0]}{more}")
    typer.echo(f"folders: {', '.join(str(folder.path / name) for name in (INPUTS, *folder.methods))}")
