"""Every plot, and the saving of plots and tables with their provenance."""

from gan_lib.figures.comparison import (
    area_curves,
    cost_scatter,
    depth_curves,
    matrix_panels,
    method_curves,
    method_styles,
    ranked_table,
    shares_table,
)
from gan_lib.figures.images import image_grid, map_grid, overlay
from gan_lib.figures.labels import LABELS
from gan_lib.figures.plots import (
    confusion,
    curve,
    interval_bars,
    similarity_and_embedding,
    training_curves,
)
from gan_lib.figures.save import FigureFolder, check_manifest, read_manifest

__all__ = [
    "LABELS",
    "FigureFolder",
    "area_curves",
    "check_manifest",
    "confusion",
    "cost_scatter",
    "curve",
    "depth_curves",
    "image_grid",
    "interval_bars",
    "map_grid",
    "matrix_panels",
    "method_curves",
    "method_styles",
    "overlay",
    "ranked_table",
    "read_manifest",
    "shares_table",
    "similarity_and_embedding",
    "training_curves",
]
