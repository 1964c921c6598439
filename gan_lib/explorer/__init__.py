"""Looking at one image with everything the workbench has, in JupyterLab.

State and computation are in plain classes (:class:`Explorer` and :class:`Inside`), the panel of ipywidgets
only binds them. What is kept is found again by contents, pixels and weights, never by names.
"""

from gan_lib.explorer.inside import Inside, conditions_of
from gan_lib.explorer.models import Models
from gan_lib.explorer.panel import ExplorerPanel
from gan_lib.explorer.pictures import Gallery
from gan_lib.explorer.state import Choice, Explorer, View

__all__ = [
    "Choice",
    "Explorer",
    "ExplorerPanel",
    "Gallery",
    "Inside",
    "Models",
    "View",
    "conditions_of",
]
