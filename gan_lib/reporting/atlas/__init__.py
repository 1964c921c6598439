"""Concepts of any number of classes as pages, and what a CNN predicts for a folder, streamed to files."""

from gan_lib.reporting.atlas.listing import write_predictions
from gan_lib.reporting.atlas.run import AtlasOptions, atlas_photos, write_atlas

__all__ = ["AtlasOptions", "atlas_photos", "write_atlas", "write_predictions"]
