"""A new workbench: notebooks, profiles and networks that come with the library, in a folder of one's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gan_lib.core.leftovers import temporary_folder
from gan_lib.workbench.places import comes_with

SWEPT = (  # tables that studies read
    *("figures/ablations", "figures/counts", "figures/generalisation", "figures/prediction_test"),
    *("figures/universal", "figures/universal_photographs"),
    *("figures/contrastive_cifar10", "figures/contrastive_photographs"),
)
SHIPPED = ("notebooks", "data/pretrained", "data/README.md", *SWEPT)
README = """\
# A workbench of gan_lib

Why does this CNN predict what it predicts, and can the answer be trusted? Run these in this folder:

    gan-lib run --profile smoke --only 01    # a try on next to nothing
    gan-lib run                              # every figure
    gan-lib lab                              # read the notebooks, and change them
    gan-lib explain photo.png                # a map of one's own picture
    gan-lib results                          # write the tables into this file

- `notebooks/` is what runs: numbered ones, `studies/`, and `profiles/`, which say with what. A profile of
  your own is a YAML file anywhere: `gan-lib run --profile my_profile.yaml`. Paths in it are looked for beside
  it, then in `data/`; modules in this folder, and beside the profile, can be imported.
- `data/` holds shipped networks (`data/README.md`), and what runs make.
- `figures/` receives figures and tables, by profile and notebook; tables of the sweeps lie there already.

<!-- results: begin -->
<!-- results: end -->
"""


def shipped_files() -> dict[str, Path]:
    """The files of a workbench, by the path that they have in it, as they lie in this installation.

    Raises:
        FileNotFoundError: an installation without them.
    """
    home = comes_with()
    if not (home / "notebooks/profiles").is_dir():
        raise FileNotFoundError(
            f"this installation holds no notebooks, {home}: install gan_lib from its wheel"
        )
    files = (path for name in SHIPPED for path in (home / name, *(home / name).rglob("*")) if path.is_file())
    names = {path.relative_to(home): path for path in sorted(files)}
    return {
        name.as_posix(): path
        for name, path in names.items()
        if not any(part.startswith((".", "__")) for part in name.parts)
    }


def init_workbench(folder: Path) -> Path:
    """Write a workbench into a new folder, or an empty one; all of it or, where it is interrupted, nothing.

        init_workbench(Path("my_work"))    # my_work/notebooks, data, figures and README.md

    Returns:
        The folder, absolute.

    Raises:
        ValueError: a folder that is not empty, or cannot be written.
        FileNotFoundError: an installation without notebooks.
    """
    target, files = folder.resolve(), shipped_files()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        what = "is not empty" if target.is_dir() else "is a file"
        raise ValueError(f"{target} {what}: name a new folder, or an empty one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(f".{target.name[:40]}-", target.parent) as beside:
            made = beside / "workbench"
            for name, path in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, made / name)  # not its mode: an installation may be read-only
            (made / "figures").mkdir(exist_ok=True)
            (made / "README.md").write_text(README, encoding="utf-8")
            _into_place(made, target)
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def _into_place(made: Path, target: Path) -> None:
    """One move; into the working directory, which a shell stands in, several, ``notebooks`` at the end."""
    if target != Path.cwd():
        os.replace(made, target)
        return
    for path in sorted(made.iterdir(), key=lambda own: own.name == "notebooks"):
        os.replace(path, target / path.name)
