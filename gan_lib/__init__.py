"""Why does this CNN predict what it predicts, and can the answer be trusted?"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["CNNExplainer", "__version__"]


def __getattr__(name: str) -> Any:
    """``gan_lib.CNNExplainer``, imported when it is asked for: it brings all of torch."""
    if name == "CNNExplainer":
        from gan_lib.explainers.plug_and_play import CNNExplainer

        return CNNExplainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
