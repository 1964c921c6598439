"""Why does this CNN predict what it predicts, and can the answer be trusted?

What is used first has a name here, ``__init__.pyi`` lists them; it is imported, and torch with it, when it
is asked for.
"""

import difflib
import importlib
import os
from typing import Any

import lazy_loader

__version__ = "0.1.0"
_get, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if os.environ.get("GAN_LIB_IMPORT"):  # modules from outside may ask for names here: not amid api's import
        importlib.import_module("gan_lib.workbench")
    try:
        return _get(name)
    except AttributeError as error:
        near = difflib.get_close_matches(name.lower(), {own.lower(): own for own in __all__}, n=3)
        told = ", ".join(own for own in __all__ if own.lower() in near)
        raise AttributeError(f"{error}; did you mean {told}?" if told else str(error)) from None
