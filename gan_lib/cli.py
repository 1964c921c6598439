"""The command line: ``gan-lib run``, ``sweep``, ``explain``, ``figures``, ``ship``, ``lab`` and ``study``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gan_lib.data import find_images
from gan_lib.explainers import METHODS
from gan_lib.figures import check_manifest, read_manifest
from gan_lib.workbench import (
    Places,
    ProfileError,
    Result,
    Sweep,
    Workbench,
    parsed_change,
    run_notebooks,
    run_sweep,
)
from gan_lib.workbench.explain import explain_images, load_explainers, resolve_class
from gan_lib.workbench.kept import ship as kept_ship

app = typer.Typer(
    help="Why does this CNN predict what it predicts, and can the answer be trusted?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Root = Annotated[Path, typer.Option(help="The project: the folder that holds notebooks/.")]


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="Name of a profile, or the path of a YAML file.")] = "cpu",
    only: Annotated[str, typer.Option(help="Notebooks to run, for instance 01,02; all by default.")] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A recipe field, for instance contrastive.epochs=3; repeatable."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run notebooks even when nothing has changed.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(help="Folder of the figures; ROOT/figures by default.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of data and artifacts; ROOT/data by default.")
    ] = None,
    root: Root = Path(),
) -> None:
    """Run the notebooks headless and regenerate their figures and tables."""
    places = Places.of(root.resolve(), figures and figures.resolve(), data and data.resolve())
    starts = [start.strip() for start in only.split(",") if start.strip()]
    with _problems():
        changed = dict(parsed_change(text) for text in changes or [])
        for result in run_notebooks(profile, places, starts, force, changed, _announce):
            _tell(result, places)


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help="A sweep in notebooks/sweeps by name, or a YAML file.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A recipe field of all settings; repeatable.")
    ] = None,
    root: Root = Path(),
) -> None:
    """Train and judge every setting of a sweep; tables go to figures/FILE."""
    places = Places.of(root.resolve())
    path = Path(file) if file.endswith((".yaml", ".yml")) else places.notebooks / "sweeps" / f"{file}.yaml"
    with _problems():
        own = Sweep.load(path, dict(parsed_change(text) for text in changes or []))
        for table in run_sweep(own, places):
            typer.echo(f"{table.relative_to(places.figures)}")


@app.command()
def ship(
    profile: Annotated[str, typer.Option(help="Whose explainers are shipped.")] = "cpu",
    weights: Annotated[
        str | None, typer.Option(help="Torchvision's name of the CNN's weights, named instead of shipped.")
    ] = None,
    root: Root = Path(),
) -> None:
    """Put the explainers that a profile has trained, those of the first seed, into data/pretrained."""
    places = Places.of(root.resolve())
    with _problems():
        subject = Workbench("ship", profile, places=places).subject()
        kept = {method: subject.kept(method) for method in subject.recipe.judge.trained}
        trained = {
            method.replace("_", "-"): found[min(found)]
            for method, (found, where) in kept.items()
            if found and where != "shipped"
        }
        if not trained:
            raise FileNotFoundError(f"profile {profile!r} has trained no explainers: run 02 and 03 first")
        about = {"recipe": subject.recipe.flat(), "data": subject.data.fingerprint}
        folder = kept_ship(subject.cnn.cpu(), trained, places.data / "pretrained", about, weights)
        typer.echo(f"{folder.relative_to(places.data)}: {', '.join(trained)}")


@contextmanager
def _problems() -> Iterator[None]:
    """What a user can mend is told in one line, with exit code 2."""
    try:
        yield
    except (ProfileError, FileNotFoundError, KeyError, ValueError) as error:
        typer.echo(f"error: {error.args[0] if error.args else error}", err=True)
        raise typer.Exit(2) from None


def _announce(number: int, total: int, notebook: str) -> None:
    typer.echo(f"[{number}/{total}] {notebook}: running ...")


def _tell(result: Result, places: Places) -> None:
    if result.state == "unchanged":
        typer.echo(f"{result.notebook}: unchanged, {len(result.files)} files")
    elif result.state == "completed":
        typer.echo(
            f"{result.notebook}: {len(result.files)} figures and tables in {result.seconds:.0f} s, "
            f"peak memory {result.peak_memory:.1f} GiB"
        )
    else:
        typer.echo(f"{result.notebook}: failed after {result.seconds:.0f} s\n{result.error}", err=True)
        typer.echo(
            f"Earlier results are untouched. The executed notebooks are in {places.data / 'runs'}.", err=True
        )
        raise typer.Exit(1)


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders that are searched for them.")],
    model: Annotated[
        str,
        typer.Option(
            help="A CNN with pretrained explainers (a folder in data/pretrained), or, for the baselines, "
            "any of torchvision's."
        ),
    ] = "slim_vgg",
    weights: Annotated[
        str | None, typer.Option(help="The CNN's weights: a safetensors file, or torchvision's by name.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help=", ".join(METHODS)),
    ] = "contrastive-lsft",
    target: Annotated[
        str | None, typer.Option(help="Class to be explained, by name or number; by default the predicted.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that receives maps and table.")] = Path("outputs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    root: Root = Path(),
) -> None:
    """Explain images: maps, overlays and a table, with pretrained explainers or baselines."""
    with _problems():
        loaded = load_explainers(root.resolve() / "data" / "pretrained", model, method, weights, device)
        files = list(find_images(images))
        if not files:
            raise FileNotFoundError(f"no images in {', '.join(map(str, images))}")
        result = explain_images(
            files,
            loaded.cnn,
            loaded.by_folder,
            loaded.image_size,
            out,
            resolve_class(loaded.cnn, target),
            warn=lambda text: typer.echo(text, err=True),
        )
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    typer.echo(f"{result.images} images explained{skipped}: {out}/explanations.csv")
    if not result.images:
        raise typer.Exit(1)


@app.command("figures")
def list_figures(root: Root = Path()) -> None:
    """List the figures and tables with their captions; fail if one is missing or was changed by hand."""
    folder = root.resolve() / "figures"
    for name, row in sorted(read_manifest(folder)["files"].items()):
        typer.echo(f"{name}: {row['caption']}")
    problems = check_manifest(folder)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def lab(root: Root = Path()) -> None:
    """Open the notebooks in JupyterLab."""
    command = [sys.executable, "-m", "jupyter", "lab", str(root.resolve() / "notebooks")]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def study(
    answers: Annotated[
        Path | None, typer.Option(help="CSV of the answers; ROOT/data/study/answers.csv by default.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of the page, on this machine.")] = 8866,
    root: Root = Path(),
) -> None:
    """Open the user study as a web page; everyone who opens it is another participant."""
    page = root.resolve() / "notebooks" / "pages" / "user_study.ipynb"
    if not page.is_file():
        typer.echo(f"error: there is no {page}", err=True)
        raise typer.Exit(2)
    environment = dict(os.environ)
    if answers:
        environment["GAN_LIB_STUDY_ANSWERS"] = str(answers.resolve())
    command = [sys.executable, "-m", "voila", str(page), f"--port={port}"]
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)
