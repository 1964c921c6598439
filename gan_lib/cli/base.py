"""The program itself, and options that several of its commands have."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gan_lib import __version__
from gan_lib.cli.problems import OneLineErrors, given

app = typer.Typer(
    cls=OneLineErrors,
    help="Why does this CNN predict what it predicts, and can the answer be trusted?",
    invoke_without_command=True,
    rich_markup_mode=None,  # rich doubles the time until help is there
    pretty_exceptions_enable=False,
)

Root = Annotated[Path, typer.Option(help="The project: the folder that holds notebooks/.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="A recipe field, for instance contrastive.epochs=3; repeatable."),
]
Outside = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        help="A module, or the path of its file, that registers methods, metrics, data sets, conditions or "
        "generators of your own; repeatable.",
    ),
]


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"gan-lib {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def import_outside(names: Sequence[str], *folders: Path) -> None:
    """Import what was given by ``--import``; modules in the working directory and ``folders`` are found."""
    from gan_lib.workbench import import_outside as import_all  # before modules of the same name are found

    for folder in (*folders, Path.cwd()):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    for name in names:
        with given("--import", name):
            import_all([name])
