"""Looking, comparing and asking people: what a person does with the workbench in JupyterLab.

State and computation are in plain classes (:class:`Explorer`, and :class:`Inside`); the
panels of ipywidgets only bind them.
"""

from gan_lib.explorer.inside import Condition, Inside, conditions_of
from gan_lib.explorer.models import Models
from gan_lib.explorer.panel import explorer_panel, interactive
from gan_lib.explorer.pictures import Gallery
from gan_lib.explorer.state import Choice, Explorer, View

__all__ = [
    "Choice",
    "Condition",
    "Explorer",
    "Gallery",
    "Inside",
    "Models",
    "View",
    "conditions_of",
    "explorer_panel",
    "interactive",
]
