"""What commands about one CNN and photos have in common: options, the CNN, its explainers, the folder."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lib.cli import values
from gan_lib.cli.problems import InputError, given, in_one_line

if TYPE_CHECKING:
    from gan_lib.api import Classifier, Explainer

LOCK = ".gan-lib.lock"  # of a folder that receives files
USUAL, BESIDE = "universal_lsft", "grad_cam"  # the method by default, and the one beside others

Photos = Annotated[list[Path], typer.Argument(help="Images, or folders that are searched for them.")]
Model = Annotated[
    str,
    typer.Option(
        help="A shipped CNN, the folder of a saved one, torchvision's name, package.module:factory or "
        "file.py:factory."
    ),
]
Weights = Annotated[str | None, typer.Option(help="The CNN's weights: a file, or torchvision's by name.")]
Classes = Annotated[str | None, typer.Option(help="Names of the classes: a file with one a line, or a,b,c.")]
ImageSize = Annotated[
    str | None,
    typer.Option(help="Pixels at which the CNN sees images, 224 or HEIGHTxWIDTH; by default as trained."),
]
Mean = Annotated[str | None, typer.Option(help="Per channel, r,g,b in [0, 1]; by default ImageNet's.")]
Std = Annotated[str | None, typer.Option(help="As --mean.")]
Output = Annotated[
    str | None,
    typer.Option(
        help="What the CNN's outputs mean: logits, probabilities, multi_label, "
        "multi_label_probabilities, binary, binary_probability or regression."
    ),
]
Select = Annotated[str | None, typer.Option(help="Which of several outputs: its place, key or field.")]
Span = Annotated[
    str | None, typer.Option(help="Lowest and highest value of a regression, for instance 0,10.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Project = Annotated[
    Path | None, typer.Option(help="The project; by default the one around the working directory.")
]


@dataclass(frozen=True)
class AskedCNN:
    """The options that say which CNN, as they were typed; wrong values raise :class:`InputError` at once."""

    model: str
    weights: str | None
    classes: str | None
    image_size: str | None
    mean: str | None
    std: str | None
    output: str | None
    select: str | None
    span: str | None
    device: str
    names_option: str = "--classes"  # what its classes are named by

    def __post_init__(self) -> None:
        self._parsed()

    def _parsed(self) -> dict[str, object]:
        return {
            "class_names": values.class_names(self.classes, self.names_option),
            "image_size": values.image_size(self.image_size),
            "mean": values.three_numbers(self.mean, "--mean"),
            "std": values.three_numbers(self.std, "--std", above=0),
            "output": self.output,
            "select": values.place(self.select),
            "span": values.span(self.span),
        }

    def load(self, pretrained: Path | None) -> tuple[Classifier, tuple[int, int]]:
        """The CNN, and the size at which it sees images; it was tried whether it takes them."""
        from gan_lib import api

        own = self._parsed()
        with given("--model", self.model), notices():
            cnn = api.load_cnn(self.model, self.weights, self.device, pretrained, **own)  # type: ignore[arg-type]
            size = values.image_size(self.image_size) or api.image_size(cnn, pretrained)
        with given(f"--model {self.model}, images of", f"{size[0]}x{size[1]} pixels"):
            _try(cnn, size)
        return cnn, size


def warn(text: str) -> None:
    from tqdm.std import tqdm  # which draws its bar again below the line

    tqdm.write(text, file=sys.stderr)


@contextmanager
def notices() -> Iterator[None]:
    """What is warned of within the block is told in a line each."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        yield
    for one in told:
        if issubclass(one.category, UserWarning):
            warn(f"notice: {one.message}")


def project(root: Path | None) -> list[Path]:
    """The folder of the project, if there is one."""
    from gan_lib.workbench import Places

    if root:
        return [root.resolve()]
    try:
        return [Places.find().notebooks.parent]
    except FileNotFoundError:
        return []


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """A folder that can be written to, and that no other run writes to within the block: a second one waits.

    What processes that are gone have left in it is removed; if nothing comes to lie there, it is taken away.
    """
    from filelock import FileLock, Timeout

    from gan_lib.core.leftovers import remove_leftovers, temporary_name

    made = [path for path in (out, *out.parents) if not path.exists()]
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder")
    probe = out / temporary_name("probe")  # its own: others may try the folder at the same time
    try:
        with given("--out", out):
            out.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        lock = FileLock(out / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warn(f"waiting for another run that writes to {out}")
            lock.acquire()
        try:
            remove_leftovers(out)
            yield
        finally:
            (out / LOCK).unlink(missing_ok=True)  # whoever waits for it sees that, and takes a new one
            lock.release()
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


def make_explainers(
    cnn: Classifier,
    methods: Sequence[str],
    pretrained: Path | None,
    size: tuple[int, int],
    beside: Sequence[str] = (BESIDE,),
) -> dict[str, Explainer]:
    """Explainers by method: those asked for, or the usual one; and Grad-CAM, or what else stands ``beside``,
    where the CNN can be explained so."""
    from gan_lib import api

    asked = methods or [USUAL]
    made: dict[str, Explainer] = {}
    for name in dict.fromkeys([*asked, *beside]):
        try:
            own = api.explainer(name, cnn, pretrained).to(cnn.mean.device)
            made[name] = own.prepare(size) if isinstance(own, api.UniversalExplainer) else own
        except (KeyError, ValueError) as error:
            if name in methods:
                raise
            warn(f"without {name}: {in_one_line(error)}")
            continue
        trained_at = size if api.METHODS[name].travels else getattr(made[name], "image_size", size)
        if tuple(trained_at) != size:
            before, now = ("x".join(map(str, sides)) for sides in (trained_at, size))
            warn(f"{name} was trained at {before} pixels and explains at the CNN's {now}")
    if not made:
        raise InputError("no method is left that explains this CNN: name one by --method")
    return made


def counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"
