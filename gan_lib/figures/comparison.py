"""Plots that compare many methods: curves, a scatter of cost against quality, tables in colour."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gan_lib.figures.fitting import LINE, fit_together
from gan_lib.figures.plots import PALETTE, legend_below, whiskers

DASHES = ("-", "-.", ":")


def method_styles(
    methods: Sequence[str], strong: Collection[str] = (), controls: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """How to draw each method: ``strong`` ones thick, ``controls`` grey and dashed, the others thin.

    Up to 27 methods beside the controls differ in colour or dash.
    """
    colours = [colour for index, colour in enumerate(sns.color_palette(PALETTE)) if index != 7]  # not grey
    styles: dict[str, dict[str, Any]] = {}
    coloured = [method for method in methods if method in strong]
    coloured += [method for method in methods if method not in strong and method not in controls]
    for index, method in enumerate(coloured):
        dash, colour = divmod(index, len(colours))
        styles[method] = {
            "color": colours[colour],
            "linestyle": DASHES[dash % len(DASHES)],
            "linewidth": 2.4 if method in strong else 1.2,
        }
    greys = np.linspace(0.25, 0.65, max(2, len(controls)))
    for grey, method in zip(greys, [m for m in methods if m in controls], strict=False):
        styles[method] = {"color": f"{grey:.2f}", "linestyle": "--", "linewidth": 1.6}
    return {method: styles[method] for method in methods}


def method_curves(
    table: pd.DataFrame,
    x: str,
    panels: Mapping[str, str],
    styles: Mapping[str, Mapping[str, Any]],
    x_label: str,
    intervals: bool = False,
) -> Figure:
    """One panel per column, one line per method.

    Args:
        table: columns ``method``, ``x`` and the panels'; several rows per method and x are averaged.
        x: name of the horizontal column.
        panels: per column, its axis label.
        styles: from :func:`method_styles`; methods without one are left out.
        x_label: of the horizontal axis.
        intervals: shade between the columns ``NAME_low`` and ``NAME_high``.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 3.4), squeeze=False)
    for axis, (column, label) in zip(axes[0], panels.items(), strict=True):
        for method, style in styles.items():
            line = table[table["method"] == method].groupby(x).mean(numeric_only=True)
            if line.empty:
                continue
            axis.plot(line.index, line[column], label=method, **style)
            if intervals:
                low, high = line[f"{column}_low"], line[f"{column}_high"]
                axis.fill_between(line.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
        axis.set(xlabel=x_label, ylabel=label)
        axis.grid(alpha=0.3)
        sns.despine(ax=axis)
    legend_below(figure, axes[0, 0], ncols=5, fontsize=8)
    return figure


def area_curves(table: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """Measures at matched area, with bands for 95 % intervals.

    Args:
        table: columns ``method``, ``measure``, ``mean``, ``low``, ``high``; measures are named ``NAME@AREA``
            with the area in per cent of the image.
        panels: per NAME, its axis label.
    """
    named = table["measure"].str.extract(r"^(?P<name>.*)@(?P<area>.*)$").astype({"area": float})
    matched = table.join(named).dropna(subset="area")  # other measures have none
    wide = matched.pivot(index=["method", "area"], columns="name", values=["mean", "low", "high"])
    wide.columns = wide.columns.map(lambda own: f"{own[1]}_{own[0]}".removesuffix("_mean"))
    styles = method_styles(list(dict.fromkeys(table["method"])))
    marked = {method: {**style, "marker": "o", "markersize": 4} for method, style in styles.items()}
    shown = "shown: highest pixels [% of the image]"
    figure = method_curves(wide.reset_index(), "area", panels, marked, shown, intervals=True)
    for axis in figure.axes:
        axis.set_ylim(0, None)
    return figure


def cost_scatter(
    table: pd.DataFrame, panels: Mapping[str, str], styles: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Milliseconds per image against measures with their intervals; a log axis where they differ much.

    Args:
        table: columns ``method``, ``ms per image``, and per panel ``NAME``, ``NAME_low``, ``NAME_high``.
        panels: per NAME, its axis label.
        styles: from :func:`method_styles`.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.8), squeeze=False)
    markers = "osD^vP*Xh<>p8dH"
    wide = table["ms per image"].max() > 4 * table["ms per image"].min()
    for axis, (column, label) in zip(axes[0], panels.items(), strict=True):
        for index, method in enumerate(table["method"]):
            row, marker = table.iloc[[index]], markers[index % len(markers)]
            spread = whiskers(row, column, f"{column}_low", f"{column}_high")
            size, colour = 5 + 1.5 * (styles[method]["linewidth"] > 2), styles[method]["color"]
            style = {"fmt": marker, "markersize": size, "color": colour, "capsize": 2, "label": method}
            axis.errorbar(row["ms per image"], row[column], yerr=spread, **style)
        axis.set(xscale="log" if wide else "linear", xlabel="milliseconds per image", ylabel=label)
        axis.grid(alpha=0.3, which="both")
        sns.despine(ax=axis)
    legend_below(figure, axes[0, 0], ncols=5, fontsize=8)
    return figure


def ranked_table(
    results: pd.DataFrame,
    measures: Mapping[str, tuple[str, bool]],
    controls: Collection[str] = (),
) -> Figure:
    """Methods by measures: means as numbers, each column coloured from its worst to its best, best framed.

    Controls stand last, behind a line, and are never framed.

    Args:
        results: columns ``method``, ``measure``, ``mean``, ``low``, ``high``.
        measures: per measure, its heading and whether higher is better.
        controls: methods that compete with none.
    """
    methods = sorted(dict.fromkeys(results["method"]), key=lambda method: method in controls)
    serious = [method for method in methods if method not in controls]
    means = results.pivot(index="method", columns="measure", values="mean").loc[methods, list(measures)]
    signed = means * [1 if higher else -1 for _, higher in measures.values()]
    ranks = (signed.rank() - 1) / (signed.notna().sum() - 1).clip(lower=1)  # 0 the worst, 1 the best
    figure, axis = plt.subplots(figsize=(2.0 + 0.92 * len(measures), 0.9 + 0.3 * len(methods)))
    text = means.map(lambda value: "" if np.isnan(value) else f"{value:.2f}")
    sns.heatmap(
        ranks, annot=text, fmt="", cmap="crest_r", vmin=-0.2, vmax=1.2, cbar=False, ax=axis,
        annot_kws={"size": 8}, linewidths=0.6,
    )  # fmt: skip
    for column, name in enumerate(measures):
        own = signed.loc[serious, name]
        if own.notna().any():
            axis.add_patch(_frame(methods.index(str(own.idxmax())), column))
    axis.axhline(len(serious), color="white", linewidth=5)
    headings = [f"{label}\n({'higher' if higher else 'lower'})" for label, higher in measures.values()]
    axis.set(xlabel="", ylabel="")
    axis.set_xticklabels(headings, rotation=0, fontsize=7.5)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.tick_params(axis="y", rotation=0, labelsize=8)
    figure.tight_layout()
    return figure


def _frame(row: int, column: int) -> plt.Rectangle:
    """A frame around a cell of a table."""
    return plt.Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=2)


def shares_table(table: pd.DataFrame, label: str) -> Figure:
    """A square table of per cents, row against column, as numbers in colour; NaN stays empty."""
    side = 1.9 + 0.5 * len(table)
    figure, axis = plt.subplots(figsize=(side + 0.8, side * 0.86))
    sns.heatmap(
        table.astype(float), annot=True, fmt=".0f", annot_kws={"size": 7}, cmap="vlag", vmin=0, vmax=100,
        linewidths=0.5, cbar_kws={"shrink": 0.7, "label": label}, ax=axis,
    )  # fmt: skip
    axis.set(xlabel="than", ylabel="")
    axis.tick_params(length=0, labelsize=8)
    axis.tick_params(axis="y", rotation=0)
    axis.tick_params(axis="x", rotation=60)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    figure.tight_layout()
    return figure


def depth_curves(table: pd.DataFrame) -> Figure:
    """Relevance over depth: one panel per generator, one line per measure, with 95 % intervals; a table of
    ``generator``, ``measure``, ``condition``, ``share``, ``low``, ``high``."""
    names, measures = list(dict.fromkeys(table["generator"])), list(dict.fromkeys(table["measure"]))
    size = (min(3.2, 13 / len(names)) * len(names), 2.9)
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False)
    colours = dict(zip(measures, sns.color_palette(PALETTE, len(measures)), strict=True))
    for axis, name in zip(axes[0], names, strict=True):
        own = table[table["generator"] == name]
        for index, measure in enumerate(measures):
            line = own[own["measure"] == measure]
            places = line["condition"] + 0.07 * (index - (len(measures) - 1) / 2)  # beside each other
            style = {"fmt": "o-", "markersize": 3.5, "linewidth": 1.1, "capsize": 1.5}
            spread, label, colour = whiskers(line, "share"), measure.replace("_", " "), colours[measure]
            axis.errorbar(places, line["share"], yerr=spread, label=label, color=colour, **style)
        count = int(own["condition"].max())
        axis.axhline(1 / count, color="0.5", linewidth=0.8, linestyle=":")
        axis.set(title=name, xlabel="condition, first to last", xticks=range(1, count + 1))
        axis.grid(alpha=0.3)
        sns.despine(ax=axis)
    axes[0, 0].set(ylabel="share of the relevance", ylim=(0, None))
    legend_below(figure, axes[0, 0], ncols=5, fontsize=8)
    return figure


def matrix_panels(
    panels: Mapping[str, pd.DataFrame], framed: pd.DataFrame | None = None, columns: int = 3
) -> Figure:
    """Tables of the same rows and columns by title, ``columns`` side by side, as numbers in colour; cells get
    a frame for which ``framed``, of the same shape, is true."""
    first = next(iter(panels.values()))
    rows = -(-len(panels) // columns)
    heads, points = fit_together([str(name).replace("_", " ") for name in first.columns], 58)
    labels, left_points = fit_together([str(name).replace("_", " ") for name in first.index], 104, high=30)
    below = LINE * points * max(own.count("\n") for own in heads) / 72  # inches, beyond the first line
    size = (columns * (1.6 + 0.95 * first.shape[1]), rows * (0.9 + below + 0.45 * first.shape[0]))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, table) in zip(axes.flat, panels.items(), strict=False):
        form = ".2f" if table.abs().max().max() <= 10 else ".1f"
        sns.heatmap(table, ax=axis, cmap="crest_r", annot=True, fmt=form, cbar=False, linewidths=1)
        for row, column in [] if framed is None else np.argwhere(framed.loc[table.index, table.columns]):
            axis.add_patch(_frame(row, column))
        axis.set(xlabel="", ylabel="")
        axis.set_title(title, fontsize=9)
        axis.set_xticklabels(heads, rotation=0, fontsize=min(points, 7))
        axis.set_yticklabels(labels, rotation=0, fontsize=left_points)
        axis.tick_params(length=0)
    figure.tight_layout()
    return figure
