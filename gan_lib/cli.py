"""The command line: ``gan-lib run``, ``explain``, ``figures``, ``lab`` and ``study``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from gan_lib.explainers import BASELINES, CONTROLS
from gan_lib.figures import check_manifest, read_manifest
from gan_lib.workbench import Places, ProfileError, Result, load_profile, parse_override, run_notebooks
from gan_lib.workbench.explain import explain_images, find_images, load_explainers, resolve_class
from gan_lib.workbench.profiles import Profile

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
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter, name=value; repeatable.")
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
    try:
        chosen = load_profile(profile, places.notebooks / "profiles")
        changed = dict(parse_override(text) for text in overrides or [])
        chosen = Profile(chosen.name, {**chosen.parameters, **changed})
        starts = [start.strip() for start in only.split(",") if start.strip()]
        for result in run_notebooks(chosen, places, starts, force, _announce):
            _tell(result, places)
    except ProfileError as error:
        typer.echo(f"error: {error}", err=True)
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
        typer.Option(
            help="lsft, gsft, contrastive-lsft, contrastive-gsft, " + ", ".join([*BASELINES, *CONTROLS])
        ),
    ] = "contrastive-lsft",
    target: Annotated[
        str | None, typer.Option(help="Class to be explained, by name or number; by default the predicted.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that receives maps and table.")] = Path("outputs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    root: Root = Path(),
) -> None:
    """Explain images: maps, overlays and a table, with pretrained explainers or baselines."""
    try:
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
    except (FileNotFoundError, KeyError, ValueError) as error:
        typer.echo(f"error: {error.args[0] if error.args else error}", err=True)
        raise typer.Exit(2) from None
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
