"""The concepts of all classes of ImageNet: time and peak memory of every stage, on one machine.

    python tests/benchmarks/all_classes.py SAMPLES WEIGHTS --out data/all_classes

``SAMPLES`` holds a folder for each class with a photograph in it, ``WEIGHTS`` are MobileNetV2's as a file.
First 50 variations of every photograph are made from a seed (crops, flips, light and colour), into
``OUT/images``; then come images (with the prediction list), concepts, prototypes, pages, and the prediction test,
into ``OUT/atlas``. What is there from an interrupted run is not made again, and its time is missing then. With
``--classes 50`` and ``--classes 100`` one sees whether time a class and memory are constant.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from gan_lib import api
from gan_lib.core.runtime import threads
from gan_lib.core.storage import atomic_path
from gan_lib.reporting.atlas import AtlasOptions, atlas_photos, write_atlas

SIDE = 224
NOTE = (
    "The images of each class are variations of one photograph: crops, flips, light and colour. "
    "This shows what all classes cost, not what the CNN knows of them."
)


def vary(picture: Image.Image, drawn: np.random.Generator) -> Image.Image:
    """A crop of 60 to 100 % of the photograph's area, perhaps mirrored, in another light and colour."""
    side = int(min(picture.size) * drawn.uniform(0.6, 1) ** 0.5)
    left, top = (int(drawn.integers(0, length - side + 1)) for length in picture.size)
    made = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    if drawn.random() < 0.5:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        made = kind(made).enhance(drawn.uniform(0.7, 1.3))
    return made


def make_images(samples: Path, out: Path, classes: int, images: int, seed: int) -> None:
    """``out/CLASS/00.jpg`` and so on, of the first photograph in every class folder."""
    for number, folder in enumerate(sorted(own for own in samples.iterdir() if own.is_dir())[:classes]):
        wanted = [out / folder.name / f"{place:02d}.jpg" for place in range(images)]
        if all(path.is_file() for path in wanted):
            continue
        with Image.open(min(folder.iterdir())) as opened:
            picture = opened.convert("RGB")
        for place, path in enumerate(wanted):
            with atomic_path(path) as temporary:
                made = vary(picture, np.random.default_rng([seed, number, place]))
                made.save(temporary, format="JPEG", quality=90)


class Stages:
    """Seconds, of the wall's and of the processor's clock, and the highest resident memory of every stage."""

    def __init__(self) -> None:
        self.name = ""

    def begin(self, name: str) -> None:
        """The stage before is over, and another one begins; ``""`` is none."""
        if self.name:
            wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
            told = f"{self.name:16} {wall:8.1f} s {cpu:8.1f} s of CPU, peak {peak_memory():.2f} GiB"
            print(told, flush=True)
        self.name = name
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far counts no more
        self.wall, self.cpu = time.perf_counter(), time.process_time()


def peak_memory() -> float:
    """Highest resident memory in GiB, files that are mapped into it included."""
    lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=Path("data/all_classes"))
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    names = sorted(own.name for own in asked.samples.iterdir() if own.is_dir())
    clock, folder = Stages(), asked.out / "images"
    with threads(asked.threads):
        clock.begin("making images")
        make_images(asked.samples, folder, asked.classes, asked.images, asked.seed)
        clock.begin("loading")
        cnn, size = api.load_cnn("mobilenet_v2", str(asked.weights), "cpu", class_names=names), (SIDE, SIDE)
        photos = atlas_photos([folder], asked.out / "atlas")
        options = AtlasOptions(test=True, note=NOTE, seed=asked.seed)
        write_atlas(cnn, photos, size, asked.out / "atlas", options, stage=clock.begin)
        clock.begin("")
    print(f"{len(photos)} images of {asked.classes} classes: {asked.out / 'atlas/index.html'}")


if __name__ == "__main__":
    main()
