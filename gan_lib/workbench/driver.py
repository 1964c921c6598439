"""Run notebooks headless, two at a time, and file their figures when they have succeeded."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import papermill
from filelock import FileLock, Timeout
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from papermill.exceptions import PapermillExecutionError

from gan_lib.core.artifacts import code_version, digest
from gan_lib.core.leftovers import OURS, remove_leftovers, temporary_folder
from gan_lib.core.runtime import PASSIVE, PINNED, PeakMemory, versions
from gan_lib.core.storage import atomic_path, read_json, write_json
from gan_lib.figures.save import check_manifest, merge_manifest, read_manifest
from gan_lib.workbench.cells import AtCell, watched
from gan_lib.workbench.claims import claims_file
from gan_lib.workbench.jobs import SHARE
from gan_lib.workbench.named import check_named, fingerprints, importable, make_importable
from gan_lib.workbench.outside import outside_code
from gan_lib.workbench.places import DATA, FIGURES, SWEPT, Places, python_path
from gan_lib.workbench.recipes import Profile, ProfileError
from gan_lib.workbench.schedule import Kernels, in_turn
from gan_lib.workbench.values import plain

EXECUTION_TIMEOUT = 6 * 3600  # seconds a cell may take
START_TIMEOUT = 120
LONGEST_SOCKET = 100  # bytes of a Unix socket's path, of the 104 to 108 that systems allow
AT_ONCE = 2  # notebooks; what one computes alone on a core, another fills up


@dataclass(frozen=True)
class Result:
    """What became of one notebook."""

    notebook: str  # its name without ending
    state: Literal["completed", "unchanged", "failed"]
    seconds: float = 0.0
    peak_memory: float = 0.0  # of this process and all it started, in GiB
    files: tuple[str, ...] = ()  # figures and tables, relative to the figure folder
    error: str = ""  # with the failing cell


def find_notebooks(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks of a folder and its studies, in order; ``only`` keeps names that start so.

    Raises:
        ProfileError: no notebook, or one of ``only`` that names none.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb")) + sorted(folder.glob("studies/*.ipynb"))
    if not found:
        raise ProfileError(f"no numbered notebooks in {folder}")
    names = {path: notebook_name(path, folder) for path in found}
    unknown = [start for start in only if not any(name.startswith(start) for name in names.values())]
    if unknown:
        raise ProfileError(f"no notebook starts with {', '.join(unknown)}; there are {list(names.values())}")
    return [path for path, name in names.items() if not only or name.startswith(tuple(only))]


def notebook_name(path: Path, folder: Path) -> str:
    """What a notebook is called: ``02_gan_training``, ``studies/ablations``."""
    return path.relative_to(folder).with_suffix("").as_posix()


def run_notebooks(
    profile: str,
    places: Places,
    only: Sequence[str] = (),
    force: bool = False,
    changes: Mapping[str, Any] | None = None,
    report: Callable[[int, int, str], None] = lambda *_: None,
    at_cell: AtCell = lambda *_: None,
) -> Iterator[Result]:
    """Run notebooks under a profile, yielding a result after each; the first failure is the last.

    A notebook whose source, recipe, library code and package versions are those of its last
    success, and whose figures are still there, is not run again. Figures and tables are written to
    a staging folder and moved into place only when the whole notebook has succeeded. Notebooks, and the
    workers that they start, can import what lies beside the profile, in the project or in the current folder.

    Where the recipe has several workers, two notebooks run at a time and share them: results are the same and
    come in the same order. A notebook waits for all before it, unless its metadata name those that it reads
    from, ``{"gan_lib": {"after": ["02_gan_training"]}}``.

    Args:
        profile: name of a profile, or the path of its YAML file; ``changes`` by dotted name.
        places: folders.
        only: beginnings of the names of the notebooks to run; all of them by default.
        force: run even what is unchanged.
        report: called with number, total and name before a notebook runs; ``at_cell`` with number, total and
            nearest heading before each of its code cells.

    Raises:
        ProfileError: names or values that do not fit; nothing has run then.
        FileNotFoundError, ValueError: something that the profile names is not there; nothing has run then.
    """
    notebooks, changes = find_notebooks(places.notebooks, only), plain(changes or {}, "changes")
    remove_leftovers(places.data / "runs", places.data / "artifacts", places.figures)
    loaded = Profile.load(profile, places.profiles, changes)
    places = replace(places, beside=loaded.folder)
    make_importable(places)
    check_named(loaded.recipe, places)
    for notebook in notebooks:
        missing = {"profile", "changes"} - papermill.inspect_notebook(str(notebook)).keys()
        if missing:
            raise ProfileError(f"{notebook.name}: its parameters cell lacks {', '.join(sorted(missing))}")
    tasks = _tasks(notebooks, loaded, places)
    known = {} if force else {own.name: own.files for own in tasks if own.files is not None}
    waiting = [own for own in tasks if own.name not in known]
    workers = loaded.recipe.machine.workers
    at_once = min(AT_ONCE, workers, len(waiting)) or 1
    environment = PASSIVE | (PINNED if loaded.recipe.machine.reproducible else {})
    environment |= {"PYTHONPATH": python_path(importable(places)), SHARE: str(workers // at_once)}
    is_file = profile.endswith((".yaml", ".yml"))  # its path as the notebook's folder sees it

    def run(kernels: Kernels, task: _Task) -> Result:
        def tell(number: int, total: int, heading: str) -> None:
            kernels.check()
            at_cell(number, total, heading if at_once == 1 else f"{task.name}: {heading}")

        with _alone(task, kernels):
            if not force and (files := _unchanged(task.status, task.key, places.figures)) is not None:
                return Result(task.name, "unchanged", files=files)  # another run has just made them
            report(task.number, len(tasks), task.name)
            seen = os.path.relpath(profile, task.notebook.parent) if is_file else profile
            parameters = {"profile": seen, "changes": changes}
            result = _run_one(task, parameters, places, environment, tell, kernels)
            write_json(task.status, {"key": task.key, **asdict(result)})
        return result

    needed = {own.name: own.after - known.keys() for own in waiting}
    with ThreadPoolExecutor(at_once) as pool, Kernels() as kernels:
        made = in_turn(waiting, needed, partial(run, kernels), _is_failed, pool, at_once)
        for task in tasks:
            is_known = task.name in known
            result = Result(task.name, "unchanged", files=known[task.name]) if is_known else next(made)
            yield result
            if _is_failed(result):
                return


@contextmanager
def _alone(task: _Task, kernels: Kernels) -> Iterator[None]:
    """Within the block no other run of this profile runs the notebook."""
    task.status.parent.mkdir(parents=True, exist_ok=True)
    if task.status.is_dir() and not task.status.is_symlink():
        shutil.rmtree(task.status)  # in the place of what is known of the last run
    lock = FileLock(task.status.with_name(f".{task.status.stem}.lock"))
    while True:
        kernels.check()
        with suppress(Timeout):
            lock.acquire(timeout=1)
            break
    try:
        yield
    finally:
        lock.release()


def _is_failed(result: Result) -> bool:
    return result.state == "failed"


@dataclass(frozen=True)
class _Task:
    """A notebook to be run, and what is known of its last run."""

    number: int
    notebook: Path
    name: str
    status: Path  # file of its last result, beside which it is kept as it was executed
    key: str  # of all that decides its result
    files: tuple[str, ...] | None  # of its last run, if it need not run again
    after: frozenset[str]  # names of those asked for that are to be done before


def _tasks(notebooks: Sequence[Path], loaded: Profile, places: Places) -> list[_Task]:
    runs, decides = places.data / "runs" / loaded.name, loaded.recipe.flat()
    decides |= fingerprints(loaded.recipe, places)
    tasks: list[_Task] = []
    for number, notebook in enumerate(notebooks, start=1):
        name = notebook_name(notebook, places.notebooks)
        claims = claims_file(places, name)
        claimed = claims.read_text() if claims.is_file() else ""
        status, key = runs / f"{name}.json", _key(notebook, {**decides, "claims": claimed})
        before = {own.name for own in tasks}
        about = read_json(notebook)["metadata"].get("gan_lib", {})
        after = frozenset(before.intersection(about.get("after", before)))
        tasks.append(
            _Task(number, notebook, name, status, key, _unchanged(status, key, places.figures), after)
        )
    return tasks


def _key(notebook: Path, parameters: Mapping[str, Any]) -> str:
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in read_json(notebook)["cells"]]
    code = "\n".join(source for kind, source in cells if kind == "code")
    used = {"gan_lib.workbench", *re.findall(r"^\s*(?:from|import) +(gan_lib[\w.]*)", code, re.MULTILINE)}
    if "gan_lib" in used:  # its names are the front door's, and rooms
        rooms = re.findall(r"^\s*from +gan_lib +import +(.+)", code, re.MULTILINE)
        used |= {"gan_lib.api", *(f"gan_lib.{room}" for room in re.findall(r"\w+", " ".join(rooms)))}
    with suppress(ModuleNotFoundError):  # which running the notebook will tell better
        return digest([cells, parameters, *map(code_version, sorted(used)), versions(), *outside_code()])
    return digest(cells)


def _unchanged(status: Path, key: str, figures: Path) -> tuple[str, ...] | None:
    """The files of a notebook's last run if it need not run again; a note of it that is damaged counts for
    none."""
    try:
        last = Result(**{name: own for name, own in read_json(status).items() if name != "key"})
        is_same = last.state == "completed" and read_json(status)["key"] == key
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    if not is_same:
        return None
    known = read_manifest(figures)["files"]
    broken = {problem.split(":")[0] for problem in check_manifest(figures)}
    is_whole = all(name in known and name not in broken for name in last.files)
    return tuple(last.files) if is_whole else None


def _run_one(
    task: _Task,
    parameters: Mapping[str, Any],
    places: Places,
    environment: Mapping[str, str],
    at_cell: AtCell,
    kernels: Kernels,
) -> Result:
    start = time.perf_counter()
    folder, stem = task.status.parent, task.notebook.stem
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f".{stem}-", folder) as staging, PeakMemory() as peak:
        environment = {
            DATA: str(places.data.resolve()),
            FIGURES: str(staging.resolve()),
            SWEPT: str(places.figures.resolve()),
            **environment,
        }
        with _kernel(environment) as kernel, kernels.running(kernel):
            executed = staging / ".executed.ipynb"
            error = _execute(task.notebook, executed, dict(parameters), at_cell, kernel)
        if executed.is_file():
            os.replace(executed, folder / f"{stem}.ipynb")
        files = () if error else _publish(staging, places.figures)
    seconds, memory = round(time.perf_counter() - start, 1), round(peak.gib, 2)
    return Result(task.name, "failed" if error else "completed", seconds, memory, files, error)


def _execute(
    notebook: Path, output: Path, parameters: dict[str, Any], at_cell: AtCell, kernel: AsyncKernelManager
) -> str:
    """Run one notebook in a fresh kernel; the failing cell and the error, or an empty string."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    total = sum(cell["cell_type"] == "code" for cell in cells)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=parameters,
            cwd=str(notebook.parent),
            kernel_name="python3",
            km=kernel,
            progress_bar=False,
            store_widget_state=False,
            coalesce_streams=True,
            execution_timeout=EXECUTION_TIMEOUT,
            start_timeout=START_TIMEOUT,
            on_cell_start=watched(total, at_cell),
        )
    except PapermillExecutionError as error:
        source = textwrap.indent(error.source, "    ")
        return f"{notebook.name}, cell {error.cell_index}:\n{source}\n{error.ename}: {error.evalue}"
    except Exception as error:  # a dead kernel or a time-out: whatever it is, the run has failed
        return f"{notebook.name}: {type(error).__name__}: {error}"
    return ""


@contextmanager
def _kernel(environment: Mapping[str, str]) -> Iterator[AsyncKernelManager]:
    """A kernel of this very Python, reached over Unix sockets: no port can be taken by another run. Their
    names are short ones; where the system's temporary folder has a long one, ports will have to do."""
    with temporary_folder(OURS) as folder:
        is_short = len(os.fsencode(folder / "kernel-ipc-1")) <= LONGEST_SOCKET
        kernel = AsyncKernelManager(
            kernel_name="python3",
            transport="ipc" if is_short else "tcp",
            connection_file=str(folder / "kernel.json"),
        )
        assert kernel.kernel_spec is not None
        kernel.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        own = {"GAN_LIB_HEADLESS": "1", **environment}
        kernel.kernel_spec.env = {name: value.replace("$", "$$") for name, value in own.items()}  # a template
        try:
            yield kernel
        finally:
            if kernel.has_kernel:
                run_sync(kernel.shutdown_kernel)(now=True)


def _publish(staging: Path, figures: Path) -> tuple[str, ...]:
    """Move staged files and their manifest rows into the figure folder; remove what a run no longer makes."""
    staged = read_manifest(staging)
    for name in staged["files"]:
        with atomic_path(figures / name) as temporary:
            shutil.move(staging / name, temporary)  # which may be to another disk
    stale = merge_manifest(figures, staged["files"], staged["runs"], replaces_runs=True)
    for name in stale:
        (figures / name).unlink(missing_ok=True)
    return tuple(sorted(staged["files"]))
