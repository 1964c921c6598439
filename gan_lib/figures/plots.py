"""Curves, tables as pictures, bars with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = "colorblind"
PANELS_PER_ROW = 3


def confusion(table: pd.DataFrame, class_names: Sequence[str], most: int = 40) -> Figure:
    """Confusion of a predictions table (``label``, ``prediction``): counts, one row per true class.

    Of more than ``most`` classes those are shown that appear in most mistakes, as label or as prediction, in
    the order of the classes.
    """
    count = len(class_names)
    counts = np.zeros((count, count), dtype=int)
    np.add.at(counts, (table["label"].to_numpy(), table["prediction"].to_numpy()), 1)
    if count > most:
        wrong = counts - np.diag(np.diag(counts))
        kept = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:most])
        counts, class_names, count = counts[np.ix_(kept, kept)], [class_names[k] for k in kept], most
    side = 1.6 + 0.36 * count
    figure, axis = plt.subplots(figsize=(side, side * 0.9))
    scale = {"shrink": 0.7, "label": "images"}
    style = {"fmt": "d", "annot_kws": {"size": 8}, "cmap": "mako_r", "vmin": 0, "linewidths": 0.5}
    _class_matrix(axis, counts, class_names, annot=count <= 20, cbar_kws=scale, **style)
    axis.set(ylabel="true class")
    return figure


def _class_matrix(axis: Axes, matrix: np.ndarray, class_names: Sequence[str], **style: Any) -> None:
    """Numbers (K, K) in colour, class against predicted class."""
    sns.heatmap(matrix, square=True, xticklabels=class_names, yticklabels=class_names, ax=axis, **style)
    axis.set(xlabel="predicted class", ylabel="predicted class")
    axis.tick_params(length=0)
    axis.tick_params(axis="y", rotation=0)


def training_curves(logs: Mapping[str, pd.DataFrame], columns: Mapping[str, str]) -> Figure:
    """Training logs, tables with a ``step``: a panel per column, with its axis label, and a line per run, its
    moving mean over 15 steps."""
    figure, axes = plt.subplots(1, len(columns), figsize=(3.6 * len(columns), 2.9), squeeze=False)
    colours = sns.color_palette(PALETTE, len(logs))
    for axis, (column, label) in zip(axes[0], columns.items(), strict=True):
        for (run, log), colour in zip(logs.items(), colours, strict=True):
            axis.plot(log["step"], log[column], color=colour, alpha=0.15, linewidth=0.6)
            smooth = log[column].rolling(15, min_periods=1, center=True).mean()
            axis.plot(log["step"], smooth, color=colour, label=run, linewidth=1.4)
        axis.set(xlabel="step", ylabel=label)
        sns.despine(ax=axis)
    legend_below(figure, axes[0, 0], ncols=4)
    return figure


def legend_below(figure: Figure, axis: Axes, **style: Any) -> None:
    """The panels' layout, and below them one legend for all, of what the first one shows."""
    figure.tight_layout()
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), frameon=False, **style)


def whiskers(table: pd.DataFrame, mean: str = "mean", low: str = "low", high: str = "high") -> np.ndarray:
    """How far intervals reach below and above the means, (2, N); not below 0 where rounding says so."""
    return np.fmax([table[mean] - table[low], table[high] - table[mean]], 0)


def interval_bars(table: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """Horizontal points with 95 % intervals: one panel per measure, one row per method.

    Args:
        table: columns ``method``, ``measure``, ``mean``, ``low``, ``high``.
        panels: per measure, its axis label.
    """
    methods = list(dict.fromkeys(table["method"]))
    colours = dict(zip(methods, sns.color_palette(PALETTE, len(methods)), strict=True))
    columns = len(panels) if len(panels) == PANELS_PER_ROW + 1 else min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // columns)  # no panel in a row of its own
    size = (3.3 * columns, rows * (0.8 + 0.3 * len(methods)))
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (measure, label) in zip(axes.flat, panels.items(), strict=False):
        for method, row in table[table["measure"] == measure].groupby("method", sort=False):
            style = {"fmt": "o", "markersize": 5, "capsize": 3, "color": colours[method]}
            axis.errorbar(row["mean"], [methods.index(method)] * len(row), xerr=whiskers(row), **style)
        axis.set(xlabel=label, yticks=range(len(methods)), yticklabels=methods)
        axis.grid(axis="x", alpha=0.3)
        sns.despine(ax=axis, left=True)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    figure.tight_layout()
    return figure


def similarity_and_embedding(
    matrix: np.ndarray, points: np.ndarray, classes: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Similarities between classes (K, K) as a matrix, and images as points (N, 2) coloured by class."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2))
    scale = {"shrink": 0.75, "label": "mean cosine similarity"}
    style = {"fmt": ".2f", "annot_kws": {"size": 7}, "cmap": "mako", "cbar_kws": scale}
    _class_matrix(left, matrix, class_names, annot=len(matrix) <= 12, **style)
    shown = sorted(set(classes.tolist()))
    for colour, own in zip(sns.color_palette("husl", len(shown)), shown, strict=True):
        rows = classes == own
        right.scatter(*points[rows].T, s=9, color=colour, label=class_names[own], linewidths=0)
    right.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    if len(shown) <= 12:
        right.legend(fontsize=7, markerscale=1.6, frameon=False, bbox_to_anchor=(1, 0.5), loc="center left")
    sns.despine(ax=right)
    figure.tight_layout()
    return figure


def curve(table: pd.DataFrame, x: str, y: str, low: str, high: str, labels: tuple[str, str]) -> Figure:
    """One line with its interval: columns ``x``, ``y``, ``low``, ``high``; axis labels for x and y.

    A table without rows, as a CNN that was not trained here has, gives axes that say so.
    """
    figure, axis = plt.subplots(figsize=(4.4, 3.0))
    colour = sns.color_palette(PALETTE)[0]
    if len(table):
        axis.plot(table[x], table[y], marker="o", markersize=4, color=colour)
        axis.fill_between(table[x], table[low], table[high], color=colour, alpha=0.2)
    else:
        axis.text(
            0.5, 0.5, "nothing to show", transform=axis.transAxes, ha="center", va="center", color="grey"
        )
    axis.axhline(0, color="grey", linewidth=0.6)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.grid(alpha=0.3)
    sns.despine(ax=axis)
    figure.tight_layout()
    return figure
