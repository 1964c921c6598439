"""A small project with every stage of a run, and commands in it that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import nbformat
import psutil
from drill.damages import contents

ROOT = Path(__file__).parents[2]
MARK = "GAN_LIB_DRILL"  # environment variable by which what a command has started is found
PROFILE = """
seeds: [0, 1]
machine: {workers: WORKERS, threads: 1, job_threads: 1}
data: {train_images: 80, validation_images: 6, test_images: 20, image_size: 32}
cnn: {epochs: 6, batch_size: 8, source: train}
gan: {images: 40, test_images: 8, variants: [lsft, gsft]}
generator: {conditions: 3, width: 8, condition_hidden: 8, condition_channels: 8, sft_hidden: 8, stem_stride: 8}
discriminator: {width: 8}
supervised: {epochs: 5, warmup_steps: 1, checkpoint_every: 2, batch_size: 8}
features: {layers: 2, width: 8, stem_stride: 8, detail: 4}
evidence: {layers: 2, width: 8, stem_stride: 8, detail: 4}
critic: {width: 4}
contrastive: {epochs: 5, warmup_steps: 1, held_out: 4, checkpoint_every: 2, batch_size: 8}
universal: {epochs: 12, warmup_steps: 1, held_out: 4, checkpoint_every: 2, batch_size: 8, max_steps: 25}
"""
FIRST = """
from gan_lib.workbench import Workbench

bench = Workbench("{name}", profile, changes)
cohort = bench.cohort()
"""
STAGES = {
    "01_supervised": """
        bench.figures.save_table(cohort.accuracies(), "accuracies", "What the CNNs get right")
        learned = cohort.supervised()
        for (variant, seed), own in learned.items():
            bench.figures.save_table(own.log, f"log_{variant}_{seed}", "Losses")
        cohort.keep({run: own.explainer for run, own in learned.items()})
    """,
    "02_without_a_target": """
        from dataclasses import asdict

        import matplotlib.pyplot as plt

        from gan_lib.workbench.jobs import UniversalJob, train_all

        learned = cohort.contrastive()
        for (variant, seed), own in learned.items():
            bench.figures.save_table(own.log, f"log_{variant}_{seed}", "Losses")
        found, words = cohort.kept("lsft")
        assert sorted(found) == [0, 1], words
        subject, sizes = cohort.first, asdict(bench.recipe.evidence)
        layers, pool = sizes.pop("layers"), [(subject.trained, subject.data["train"])]
        job = UniversalJob("lsft", sizes, layers, bench.recipe.critic, pool, bench.recipe.universal)
        made, = train_all([job], subject.jobs_store, subject.machine)
        figure, axis = plt.subplots()
        axis.plot(made.log["step"], made.log.iloc[:, 2])
        bench.figures.save_figure(figure, "losses", "Losses", made.log)
    """,
}


def write_notebook(path: Path, *cells: str) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    first = nbformat.v4.new_code_cell('profile = "cpu"\nchanges = {}', metadata={"tags": ["parameters"]})
    notebook.cells = [first, *(nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in cells)]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, path)


def project(root: Path, workers: int = 1) -> Path:
    """The project in a new folder."""
    (root / "notebooks/profiles").mkdir(parents=True)
    (root / "notebooks/profiles/p.yaml").write_text(PROFILE.replace("WORKERS", str(workers)))
    for name, cell in STAGES.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", FIRST.format(name=name), cell)
    return root


def hear_interrupts() -> None:
    """A shell starts what it puts in the background deaf to SIGINT, and so would be all that the drill starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """A command of the program in a folder, with all that it starts."""

    def __init__(
        self, folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "gan_lib"), **options
    ) -> None:
        self.mark, self.system = uuid.uuid4().hex, folder / "system"
        self.system.mkdir(exist_ok=True)
        own = {MARK: self.mark, "TMPDIR": str(self.system), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.log = folder / f"{self.mark}.log"
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=folder,
                env={**os.environ, **own},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_interrupts,
                **options,
            )

    def ended(self, timeout: float = 600) -> int:
        return self.process.wait(timeout)

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)
        self.process.wait(60)

    def told(self) -> str:
        return self.log.read_text(errors="replace")

    def left(self, patience: float = 30) -> list[str]:
        """What it has started that still runs after some patience; it is ended then."""
        deadline = time.monotonic() + patience
        while (found := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        told = [" ".join(own.info["cmdline"] or ())[:120] for own in found]
        for own in found:
            own.kill()
        return told


def marked(mark: str) -> list[psutil.Process]:
    """Processes that have a mark in their environment."""
    found = []
    for own in psutil.process_iter(["cmdline"]):
        try:
            if own.status() != psutil.STATUS_ZOMBIE and own.environ().get(MARK) == mark:
                found.append(own)
        except psutil.Error:
            continue
    return found


def results(root: Path) -> dict[str, bytes]:
    """All that a run has made, but for its notes of seconds and memory."""
    found = contents(root / "data/artifacts") | contents(root / "figures")
    return {name: own for name, own in found.items() if "claims" not in name}


def leftovers(root: Path) -> list[str]:
    """Names of what should not be there when a run has ended."""
    found = [path for path in root.rglob("*") if path.name.endswith((".tmp", ".partial"))]
    found += [path for path in (root / "system").iterdir() if path.name.startswith("gan-lib-")]
    return sorted({str(path.relative_to(root)) for path in found})


def killed_until_done(
    root: Path, drawn: random.Random, longest: float, *arguments: str
) -> tuple[int, list[str]]:
    """Run a command again and again, killing it at random moments, until it ends by itself.

    It is given a little longer each time: a machine that has become slower would never get on.

    Returns:
        How often it was killed, and what it had started that outlived it.
    """
    kills, orphans = 0, []
    while True:
        command = Command(root, *arguments)
        try:
            code = command.ended(drawn.uniform(0.5, longest * 1.05**kills))
        except subprocess.TimeoutExpired:
            command.kill()
            kills += 1
            orphans += command.left()
            continue
        assert code == 0, command.told()[-3000:]
        return kills, orphans
