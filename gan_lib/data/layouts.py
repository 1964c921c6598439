"""Published image sets by name, as they lie in a folder when unzipped; nothing is downloaded.

    data/animals10/raw-img/<Italian name>/*.jpeg
    data/food11/{training,validation,evaluation}/<class number>_<number>.jpg
    data/chinese_mnist/chinese_mnist.csv  and, anywhere below, input_<suite>_<sample>_<code>.jpg

Each may also be a plain image folder (:mod:`gan_lib.data.folders`), whose class names are then those of its
folders. Labels come in the order in which the set numbers its classes, or in that of its folders, as
``torchvision.datasets.ImageFolder`` gives them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from gan_lib.data.folders import Files, Found, decoded, find_classes, split_by_seed, split_folders
from gan_lib.data.images import ImageData
from gan_lib.data.tree import files_below, has_image_ending, listing

ANIMALS = {
    "cane": "dog",
    "cavallo": "horse",
    "elefante": "elephant",
    "farfalla": "butterfly",
    "gallina": "chicken",
    "gatto": "cat",
    "mucca": "cow",
    "pecora": "sheep",
    "ragno": "spider",
    "scoiattolo": "squirrel",
}
FOODS = (
    *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat", "Noodles-Pasta", "Rice", "Seafood"),
    *("Soup", "Vegetable-Fruit"),
)


@dataclass(frozen=True)
class PublishedSet:
    """A builder (:mod:`gan_lib.data.registry`) of a set that lies in a folder of the data folder.

        DATA_SETS.register("animals10", PublishedSet("animals10", "Kaggle, alessiocorrado99/animals10", ...))

    Args:
        name: of the set; hyphens, underscores and capitals in the folder's name do not matter.
        source: where it is published, by its name there.
        layout: what the folder should hold, for messages.
        find: finds the images in the folder; takes it and the seed of a split.
        other_names: further names that the folder may have.
    """

    name: str
    source: str
    layout: str
    find: Callable[[Path, int], Found | None]
    other_names: tuple[str, ...] = ()

    def __call__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        train: int | None = None,
        test: int | None = None,
        validation: int | None = None,
        seed: int = 0,
        into: Path | None = None,
    ) -> ImageData:
        """Read the set; see :func:`gan_lib.data.image_folder` for the arguments.

        Raises:
            FileNotFoundError: its folder is not in ``root`` or holds something else; the message says what is
                expected, and where the set is published.
        """
        folder = self.folder(root)
        found = self.find(folder, seed)
        if found is None:
            raise FileNotFoundError(f"{folder} does not hold {self.name}: {self._expected(folder)}")
        counts = {"train": train, "test": test, "validation": validation}
        return decoded(folder, found, size, counts, seed, into, name=self.name)

    def folder(self, root: str | Path) -> Path:
        """Its folder in the folder of the data sets.

        Raises:
            FileNotFoundError: there is none.
        """
        usual = Path(root) / self.name
        names = {_plain(name) for name in (self.name, *self.other_names)}
        folders = listing(Path(root)).folders if Path(root).is_dir() else ()
        fitting = [path for path in folders if _plain(path.name) in names]
        if not fitting:
            raise FileNotFoundError(f"{self.name} is not in {root}: {self._expected(usual)}")
        return usual if usual in fitting else fitting[0]

    def _expected(self, folder: Path) -> str:
        layout = f"{folder}/ should hold {self.layout}, or one folder per class"
        return f"{layout}; the set is published as {self.source}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _innermost(folder: Path) -> Path:
    """The folder within which there is more than one folder: archives wrap one in another."""
    inside = listing(folder)
    if len(inside.folders) == 1 and not any(map(has_image_ending, inside.files)):
        return _innermost(inside.folders[0])
    return folder


def _class_folders(folder: Path, seed: int) -> Found | None:
    return find_classes(folder, seed) if len(listing(folder).folders) > 1 else None


def _animals(folder: Path, seed: int) -> Found | None:
    found = _class_folders(_innermost(folder), seed)
    if found is None:
        return None
    return replace(found, class_names=tuple(ANIMALS.get(name.lower(), name) for name in found.class_names))


def _food(folder: Path, seed: int) -> Found | None:
    inner = _innermost(folder)
    named = split_folders(inner)
    flat = [path for path in named.values() if not listing(path).folders]
    if not flat:
        return _class_folders(inner, seed)
    if len(flat) < len(named) or not {"train", "test"} <= named.keys():
        return None
    found = Found(FOODS, {})
    for split, own in named.items():
        files: Files = []
        for path in filter(has_image_ending, listing(own).files):
            number = re.match(r"(\d+)_", path.name)
            if number and int(number[1]) < len(FOODS):
                files.append((path, int(number[1])))
            else:
                found.skipped.append((path, f"its name does not begin with a class, 0_ to {len(FOODS) - 1}_"))
        found.splits[split] = sorted(files, key=lambda entry: entry[1])
    return found


def _chinese(folder: Path, seed: int) -> Found | None:
    """Images by the table of the set, where they do not lie in class folders."""
    if (found := _class_folders(_innermost(folder), seed)) is not None:
        return found
    below = files_below(folder)
    table_file = next((path for path in below.files if path.name.lower() == "chinese_mnist.csv"), None)
    images = {path.name: path for path in below.files if has_image_ending(path)}
    if table_file is None or not images:
        return None
    table = pd.read_csv(table_file)
    if missing := [name for name in ("suite_id", "sample_id", "code", "value") if name not in table]:
        raise ValueError(f"{table_file} lacks the columns {', '.join(missing)}")
    values = dict(sorted(zip(table["code"].tolist(), table["value"].astype(str), strict=True)))  # by code
    label_of, files, skipped = {code: label for label, code in enumerate(values)}, [], [*below.lost]
    for suite, sample, code in table[["suite_id", "sample_id", "code"]].itertuples(index=False):
        name = f"input_{suite}_{sample}_{code}.jpg"
        if (path := images.pop(name, None)) is not None:
            files.append((path, label_of[code]))
        else:
            skipped.append((folder / name, f"{table_file.name} names it, but it is not there"))
    skipped += [(path, f"{table_file.name} does not name it") for path in images.values()]
    files.sort(key=lambda entry: (entry[1], entry[0]))
    return Found(tuple(values.values()), split_by_seed(files, seed), skipped) if files else None


animals10 = PublishedSet(
    "animals10",
    "alessiocorrado99/animals10 on Kaggle",
    "raw-img/ with a folder per class (cane, cavallo, ...)",
    _animals,
)
food11 = PublishedSet(
    "food11",
    "Food-11 of the EPFL (trolukovich/food11-image-dataset on Kaggle)",
    "training/, validation/ and evaluation/ with images 0_0.jpg to 10_*.jpg",
    _food,
    ("food11-image-dataset",),
)
chinese_mnist = PublishedSet(
    "chinese_mnist",
    "gpreda/chinese-mnist on Kaggle",
    "chinese_mnist.csv and the images input_<suite>_<sample>_<code>.jpg",
    _chinese,
)
