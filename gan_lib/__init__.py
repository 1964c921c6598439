"""Why does this CNN predict what it predicts, and can the answer be trusted?

    import gan_lib as gl

    cnn = gl.load_cnn("resnet50")                               # or one of your own:
    cnn = gl.wrap(my_model, class_names=["cat", "dog"], mean=[0.5] * 3, std=[0.5] * 3)
    found = gl.explain(cnn, "photos/*.jpg")                     # files, PIL images, arrays, tensors
    found.maps, found.titles, found.probabilities               # (N, 1, H, W) in [0, 1], classes, of these
    found.show(); found.save("out"); found.scores()             # a figure, files, what the maps are worth
    gl.explain(cnn, images, target="cat", method=["grad-cam", "occlusion"])              # by name
    gl.compare(cnn, images, ["grad-cam", "occlusion", "edges"]) # a table with intervals; edges is a control
    gl.sanity(gl.explainer("grad-cam", cnn), images)            # does the map depend on the CNN at all?
    mine = gl.train_explainer(cnn, images)                      # a GAN that explains this CNN
    concepts = gl.Concepts(cnn, layer).fit(images)              # parts that speak for a class

Images are (N, 3, H, W) in [0, 1], maps (N, 1, H, W) in [0, 1]. A CNN takes such images; :func:`wrap` says
how they are normalised and what its outputs mean. Every method is a class as well (``gl.GradCAM``,
``gl.Saliency``, ...), with ``attribute(images, target)`` as Captum's; ``gl.METHODS`` lists them. The names at
the top are imported, and torch with them, when they are asked for.
"""

import difflib
import importlib
import os
from typing import Any

import lazy_loader

from gan_lib.core.imports import quick_imports

__version__ = "0.2.0"
_get, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if os.environ.get("GAN_LIB_IMPORT"):  # modules from outside may ask for names here: not amid api's import
        importlib.import_module("gan_lib.workbench")
    try:
        with quick_imports():
            return _get(name)
    except AttributeError as error:
        near = difflib.get_close_matches(name.lower(), {own.lower(): own for own in __all__}, n=3)
        told = ", ".join(own for own in __all__ if own.lower() in near)
        raise AttributeError(f"{error}; did you mean {told}?" if told else str(error)) from None
