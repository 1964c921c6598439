"""Curves, tables as pictures, bars with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

PALETTE = "colorblind"
PANELS_PER_ROW = 3


def confusion(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Confusion of a predictions table (``label``, ``prediction``): counts, one row per true class."""
    count = len(class_names)
    counts = np.zeros((count, count), dtype=int)
    np.add.at(counts, (table["label"].to_numpy(), table["prediction"].to_numpy()), 1)
    side = 1.6 + 0.36 * count
    figure, axis = plt.subplots(figsize=(side, side * 0.9))
    sns.heatmap(
        counts,
        annot=count <= 20,
        fmt="d",
        annot_kws={"size": 8},
        cmap="mako_r",
        vmin=0,
        square=True,
        linewidths=0.5,
        xticklabels=class_names,
        yticklabels=class_names,
        cbar_kws={"shrink": 0.7, "label": "images"},
        ax=axis,
    )
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.tick_params(axis="both", length=0)
    axis.tick_params(axis="y", rotation=0)
    return figure


def training_curves(logs: Mapping[str, pd.DataFrame], columns: Mapping[str, str], window: int = 15) -> Figure:
    """Training logs side by side: one panel per column, one line per run, its moving mean over steps.

    Args:
        logs: per run, a table with a ``step`` column.
        columns: per column of the tables, the axis label.
        window: steps of the moving mean.
    """
    figure, axes = plt.subplots(1, len(columns), figsize=(3.6 * len(columns), 2.9), squeeze=False)
    colours = sns.color_palette(PALETTE, len(logs))
    for axis, (column, label) in zip(axes[0], columns.items(), strict=True):
        for (run, log), colour in zip(logs.items(), colours, strict=True):
            axis.plot(log["step"], log[column], color=colour, alpha=0.15, linewidth=0.6)
            smooth = log[column].rolling(window, min_periods=1, center=True).mean()
            axis.plot(log["step"], smooth, color=colour, label=run, linewidth=1.4)
        axis.set(xlabel="step", ylabel=label)
        sns.despine(ax=axis)
    figure.tight_layout()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False)
    return figure


def interval_bars(table: pd.DataFrame, panels: Mapping[str, str], by: str = "method") -> Figure:
    """Horizontal points with 95 % intervals: one panel per measure, one row per method.

    Args:
        table: columns ``by``, ``measure``, ``mean``, ``low``, ``high``.
        panels: per measure, its axis label.
        by: the column that names the rows.
    """
    methods = list(dict.fromkeys(table[by]))
    colours = dict(zip(methods, sns.color_palette(PALETTE, len(methods)), strict=True))
    columns = len(panels) if len(panels) == PANELS_PER_ROW + 1 else min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // columns)  # no panel in a row of its own
    size = (3.3 * columns, rows * (0.8 + 0.3 * len(methods)))
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (measure, label) in zip(axes.flat, panels.items(), strict=False):
        for row in table[table["measure"] == measure].to_dict("records"):
            method, mean = row[by], row["mean"]
            spread = [[max(0.0, mean - row["low"])], [max(0.0, row["high"] - mean)]]
            place = methods.index(method)
            axis.errorbar(mean, place, xerr=spread, fmt="o", markersize=5, capsize=3, color=colours[method])
        axis.set(xlabel=label, yticks=range(len(methods)), yticklabels=methods)
        axis.grid(axis="x", alpha=0.3)
        sns.despine(ax=axis, left=True)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    figure.tight_layout()
    return figure


def area_curves(table: pd.DataFrame, panels: Mapping[str, str], by: str = "method") -> Figure:
    """Measures at matched area: one panel per measure, one line per method, bands are 95 % intervals.

    Args:
        table: columns ``by``, ``measure``, ``mean``, ``low``, ``high``; measures are named
            ``NAME@AREA`` with the area in per cent of the image.
        panels: per NAME, its axis label.
        by: the column that names the lines.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.0), squeeze=False)
    methods = list(dict.fromkeys(table[by]))
    colours = dict(zip(methods, sns.color_palette(PALETTE, len(methods)), strict=True))
    for axis, (name, label) in zip(axes[0], panels.items(), strict=True):
        own = table[table["measure"].str.startswith(f"{name}@")]
        own = own.assign(area=own["measure"].str.split("@").str[1].astype(float)).sort_values("area")
        for method in methods:
            line = own[own[by] == method]
            axis.plot(
                line["area"], line["mean"], marker="o", markersize=4, color=colours[method], label=method
            )
            axis.fill_between(line["area"], line["low"], line["high"], color=colours[method], alpha=0.15)
        axis.set(xlabel="shown: highest pixels [% of the image]", ylabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
        sns.despine(ax=axis)
    figure.tight_layout()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=6, frameon=False)
    return figure


def similarity_and_embedding(
    matrix: np.ndarray, points: np.ndarray, classes: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Similarities between classes (K, K) as a matrix, and images as points (N, 2) coloured by class."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2))
    sns.heatmap(
        matrix,
        ax=left,
        cmap="mako",
        square=True,
        annot=len(matrix) <= 12,
        fmt=".2f",
        annot_kws={"size": 7},
        xticklabels=class_names,
        yticklabels=class_names,
        cbar_kws={"shrink": 0.75, "label": "mean cosine similarity"},
    )
    left.set(xlabel="predicted class", ylabel="predicted class")
    left.tick_params(length=0)
    left.tick_params(axis="y", rotation=0)
    shown = sorted(set(classes.tolist()))
    for colour, own in zip(sns.color_palette("husl", len(shown)), shown, strict=True):
        rows = classes == own
        right.scatter(
            points[rows, 0], points[rows, 1], s=9, color=colour, label=class_names[own], linewidths=0
        )
    right.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    if len(shown) <= 12:
        right.legend(fontsize=7, markerscale=1.6, frameon=False, bbox_to_anchor=(1, 0.5), loc="center left")
    sns.despine(ax=right)
    figure.tight_layout()
    return figure


def curve(table: pd.DataFrame, x: str, y: str, low: str, high: str, labels: tuple[str, str]) -> Figure:
    """One line with its interval: columns ``x``, ``y``, ``low``, ``high``; axis labels for x and y."""
    figure, axis = plt.subplots(figsize=(4.4, 3.0))
    colour = sns.color_palette(PALETTE)[0]
    axis.plot(table[x], table[y], marker="o", markersize=4, color=colour)
    axis.fill_between(table[x], table[low], table[high], color=colour, alpha=0.2)
    axis.axhline(0, color="grey", linewidth=0.6)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.grid(alpha=0.3)
    sns.despine(ax=axis)
    figure.tight_layout()
    return figure
