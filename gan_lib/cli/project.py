"""A project's commands: ``run``, ``sweep``, ``ship``, ``reference``, ``figures``, ``results``, ``lab``, ...

Their bodies begin with the imports that take long.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_lib.cli.base import Changes, Outside, Root, app, import_outside
from gan_lib.cli.problems import InputError, given

if TYPE_CHECKING:
    from gan_lib.workbench import Places, Sweep
    from gan_lib.workbench.driver import Result

LOOPBACK = "127.0.0.1"
LARGEST_UPLOAD = 100 * 2**20  # bytes
Address = Annotated[
    str, typer.Option(help="Network address to listen on; by default this machine alone can connect.")
]

# What a user can mend, as the workbench tells it: told in one line, with exit code 2.
_problems = partial(given, kinds=(FileNotFoundError, KeyError, ValueError))


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")]) -> None:
    """Write a workbench into a new folder: notebooks, profiles and shipped networks."""
    from gan_lib.workbench.init import init_workbench

    with _problems():
        made = init_workbench(folder)
    typer.echo(f"{made}: see README.md in it; a first try there is: gan-lib run --profile smoke --only 01")


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="Name of a profile, or the path of a YAML file.")] = "cpu",
    only: Annotated[str, typer.Option(help="Notebooks to run, for instance 01,02; all by default.")] = "",
    changes: Changes = None,
    outside: Outside = None,
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
    from gan_lib.workbench import Places, Profile, parsed_change
    from gan_lib.workbench.cells import Teller
    from gan_lib.workbench.claims import collect_claims, in_words
    from gan_lib.workbench.driver import find_notebooks, notebook_name, run_notebooks

    places = Places.of(root.resolve(), figures and figures.resolve(), data and data.resolve())
    with _problems():
        import_outside(outside or ())
        changed = dict(parsed_change(text) for text in changes or [])
        told = Teller(sys.stdout)
        asked = (profile, places, _names(only), force, changed, told.notebook, told.cell)
        for result in run_notebooks(*asked):
            told.clear()
            _tell(result, places)
        names = [notebook_name(path, places.notebooks) for path in find_notebooks(places.notebooks)]
        name = Profile.load(profile, places.profiles).name
        decided = collect_claims(name, names, places)
        if len(decided):
            typer.echo(f"{in_words(decided['verdict'].value_counts())} (figures/{name}/claims.csv)")
            typer.echo("compare with the committed tables: gan-lib figures --compare")


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help="A sweep in notebooks/sweeps by name, or a YAML file.")],
    changes: Changes = None,
    outside: Outside = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Dask workers: local:N, tcp://HOST:PORT, a scheduler's JSON file, or slurm:FILE.yaml."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=1, help="With --cluster: seconds that a cell may take before its worker is ended."),
    ] = None,
    root: Root = Path(),
) -> None:
    """Train and judge every setting of a sweep; tables go to figures/FILE."""
    from gan_lib.workbench import Places, parsed_change, run_sweep
    from gan_lib.workbench.cluster import cluster as workers
    from gan_lib.workbench.crew import working
    from gan_lib.workbench.sweeps import CellsFailedError

    places = Places.of(root.resolve())
    if timeout is not None and cluster is None:
        raise InputError("--timeout needs --cluster: local:1 is one process that can be ended")
    with ExitStack() as stack, _problems():
        import_outside(outside or ())
        own = _sweep_of(file, places, dict(parsed_change(text) for text in changes or []))
        if cluster is not None:
            stack.enter_context(working(stack.enter_context(workers(cluster, places, timeout, typer.echo))))
        failed: tuple[str, ...] = ()
        try:
            tables = run_sweep(own, places)
        except CellsFailedError as error:
            tables, failed = error.tables, error.lines()
        for table in tables:
            typer.echo(f"{table.relative_to(places.figures)}")
        for line in failed:
            typer.echo(f"failed: {line}", err=True)
        if failed:
            raise typer.Exit(1)


@app.command()
def ship(
    profile: Annotated[str, typer.Option(help="Whose explainers are shipped.")] = "cpu",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Torchvision's name of the CNN's weights, named instead of shipped; none: users bring some."
        ),
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="A sweep of the runner universal or rivals.")] = None,
    root: Root = Path(),
) -> None:
    """Put the explainers that a profile has trained, those of the first seed, into data/pretrained.

    With --sweep: those for any CNN, trained on all CNNs of a sweep's pool, or the contrastive ones of the
    CNN of a sweep of rivals.
    """
    from gan_lib.workbench import Places, Workbench
    from gan_lib.workbench.ship import ship as ship_explainers
    from gan_lib.workbench.ship import ship_swept

    places = Places.of(root.resolve())
    with _problems():
        if sweep is not None:
            own = _sweep_of(sweep, places, {})
            folder, methods = ship_swept(own, Workbench("ship", own.profile, own.changes, places), weights)
            typer.echo(f"{folder.relative_to(places.data)}: {', '.join(methods)}")
            return
        folder, methods = ship_explainers(Workbench("ship", profile, places=places).subject(), weights)
        typer.echo(f"{folder.relative_to(places.data)}: {', '.join(methods)}")


@app.command()
def reference(
    only: Annotated[
        str,
        typer.Option(help="Architectures or DATA/ARCHITECTURE/SEED, separated by commas; all by default."),
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    root: Root = Path(),
) -> None:
    """Train the reference CNNs in data/pretrained again, in the pinned way in which they are shipped."""
    from gan_lib.workbench import Places
    from gan_lib.workbench.reference import make_references

    with _problems():
        for card in make_references(Places.of(root.resolve()), _names(only), workers):
            mark = f", mark followed {card['mark']['followed']:.2f}" if "mark" in card else ""
            own = card["cnn"]
            typer.echo(
                f"{card['data']['name']}/{own['architecture']}/{own['seed']}: "
                f"accuracy {card['accuracy']['test']:.3f}{mark}, {card['weights']}"
            )


def _sweep_of(file: str, places: Places, changes: Mapping[str, Any]) -> Sweep:
    """A sweep by its name in ``notebooks/sweeps``, or by its file."""
    from gan_lib.workbench import Sweep

    is_file = file.endswith((".yaml", ".yml"))
    return Sweep.load(Path(file) if is_file else places.notebooks / "sweeps" / f"{file}.yaml", changes)


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


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
        kept = f"Earlier results are untouched. The executed notebooks are in {places.data / 'runs'}."
        typer.echo(kept, err=True)
        raise typer.Exit(1)


@app.command("figures")
def list_figures(
    reference: Annotated[
        str, typer.Argument(help="With --compare: a git revision of the project, or a folder of figures.")
    ] = "HEAD",
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the tables with others, by default the committed ones.")
    ] = False,
    profile: Annotated[str, typer.Option(help="Whose tables are compared.")] = "cpu",
    root: Root = Path(),
) -> None:
    """List the figures and tables with their captions; fail if one is missing or was changed by hand.

    With --compare: fail if more than 7 % of the means lie outside the other tables' intervals, or a claim
    that held does not hold, or the reverse.
    """
    from gan_lib.workbench.reproduction import listed

    folder = root.resolve() / "figures"
    if compare:
        _compare(reference, folder, profile, root.resolve())
        return
    with _problems():
        captions, problems = listed(folder)
    for name, caption in captions.items():
        typer.echo(f"{name}: {caption}")
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _compare(reference: str, folder: Path, profile: str, root: Path) -> None:
    from gan_lib.workbench.reproduction import committed_figures, compare_figures, told

    with _problems(), committed_figures(reference, root) as committed:
        made = compare_figures(committed, folder, profile)
    for line in told(made):
        typer.echo(line)
    made.save(folder, profile, reference)
    if not made.is_reproduced:
        raise typer.Exit(1)


@app.command()
def results(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if README is not what the tables say.")
    ] = False,
    root: Root = Path(),
) -> None:
    """Write README's results and figures/RESULTS.md from the tables."""
    from gan_lib.workbench import Places
    from gan_lib.workbench.results import stale_results, write_results

    places = Places.of(root.resolve())
    with _problems():
        stale = stale_results(places) if check else []
        for path in [] if check else write_results(places):
            typer.echo(f"{path.relative_to(places.notebooks.parent)}")
    for line in stale:
        typer.echo(f"error: {line}", err=True)
    if stale:
        raise typer.Exit(1)


@app.command()
def lab(address: Address = LOOPBACK, root: Root = Path()) -> None:
    """Open the notebooks in JupyterLab."""
    from gan_lib.core.runtime import PASSIVE

    notebooks = root.resolve() / "notebooks"
    if not notebooks.is_dir():
        raise InputError(f"there is no {notebooks}: --root is the project, the folder that holds notebooks/")
    command = [sys.executable, "-m", "jupyter", "lab", str(notebooks), f"--ServerApp.ip={address}"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and not os.geteuid() else []  # as in a container
    # A photograph that is uploaded comes as one message, of which Jupyter takes 10 MB by default.
    command += [f"--ServerApp.tornado_settings={{'websocket_max_message_size': {LARGEST_UPLOAD}}}"]
    raise typer.Exit(subprocess.run(command, check=False, env={**PASSIVE, **os.environ}).returncode)


@app.command()
def study(
    answers: Annotated[
        Path | None, typer.Option(help="CSV of the answers; ROOT/data/study/answers.csv by default.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page, on this machine.")] = 8866,
    address: Address = LOOPBACK,
    root: Root = Path(),
) -> None:
    """Open the user study as a web page; everyone who opens it is another participant."""
    page = root.resolve() / "notebooks" / "pages" / "user_study.ipynb"
    if not page.is_file():
        raise InputError(f"there is no {page}: --root is the project, the folder that holds notebooks/")
    environment = dict(os.environ)
    if answers:
        environment["GAN_LIB_STUDY_ANSWERS"] = str(answers.resolve())
    command = [sys.executable, "-m", "voila", str(page), f"--port={port}", f"--Voila.ip={address}"]
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)
