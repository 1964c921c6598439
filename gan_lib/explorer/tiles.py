"""What panels are put together from: titled pictures and bars."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from gan_lib.explorer.pictures import png


def picture(title: str, own: Tensor, below: str = "", side: int = 192) -> Any:
    """A titled picture (3, H, W)."""
    image = widgets.Image(value=png(own, side), format="png", width=side)
    image.add_class("gan-lib-picture")
    parts = [widgets.HTML(f"<b>{html.escape(title.replace('_', ' '))}</b>"), image]
    if below:
        parts.append(widgets.HTML(f"<span>{html.escape(below)}</span>"))
    return widgets.VBox(parts, layout=widgets.Layout(margin="0 10px 6px 0", width=f"{side + 12}px"))


def percent(name: str, probability: float | None) -> str:
    """A class and its probability, or nothing."""
    return "" if probability is None else f"{name}: {100 * probability:.1f} %"


def bars(values: list[tuple[str, float]], title: str) -> str:
    """Probabilities as bars, with numbers for who cannot see them."""
    rows = "".join(
        f'<div style="display:flex;gap:6px">'
        f'<span style="width:110px;overflow:hidden">{html.escape(name)}</span>'
        f'<span style="width:120px;background:#eee"><span style="display:block;height:100%;'
        f'width:{100 * value:.0f}%;background:#0173b2"></span></span><span>{100 * value:.1f} %</span></div>'
        for name, value in values
    )
    return f"<div><i>{html.escape(title)}</i>{rows}</div>"
