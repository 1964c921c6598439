"""Images with labels, splits and, where the evidence is known, its mask."""

from gan_lib.data.annotations import Annotation, AnnotationError, read_boxes, save_boxes
from gan_lib.data.folders import image_folder
from gan_lib.data.images import Batch, ImageData, ImageSplit
from gan_lib.data.mosaics import mosaic, overlaid, quarters, unlike_groups, unlike_pairs
from gan_lib.data.reading import UnreadableImageError, find_images, read_image, read_images
from gan_lib.data.registry import DATA_SETS, load_data
from gan_lib.data.scenes import digits_in_scenes, photographs

__all__ = [
    "DATA_SETS",
    "Annotation",
    "AnnotationError",
    "Batch",
    "ImageData",
    "ImageSplit",
    "UnreadableImageError",
    "digits_in_scenes",
    "find_images",
    "image_folder",
    "load_data",
    "mosaic",
    "overlaid",
    "photographs",
    "quarters",
    "read_boxes",
    "read_image",
    "read_images",
    "save_boxes",
    "unlike_groups",
    "unlike_pairs",
]
