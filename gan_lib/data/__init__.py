"""Images with labels, splits and, where the evidence is known, its mask."""

from gan_lib.data.folders import image_folder
from gan_lib.data.images import Batch, ImageData, ImageSplit
from gan_lib.data.mosaics import mosaic
from gan_lib.data.registry import data_set_names, load_data
from gan_lib.data.scenes import digits_in_scenes, photographs
from gan_lib.data.torchvision_sets import torchvision_data

__all__ = [
    "Batch",
    "ImageData",
    "ImageSplit",
    "data_set_names",
    "digits_in_scenes",
    "image_folder",
    "load_data",
    "mosaic",
    "photographs",
    "torchvision_data",
]
