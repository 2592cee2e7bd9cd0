"""Charts as SVG pictures in data URIs. Colour is never the only sign: marks differ in shape or stand beside a label."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, LINE = "#1c2126", "#69737d", "#dfe3e8"
BLUE, ORANGE, GREY, GREEN, RED = "#0b5fa5", "#c8681a", "#8b949e", "#2c7a4b", "#b3372f"
# Okabe and Ito's palette for colour-blind readers, without its black and yellow.
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#5b6570", "#a05d3b", "#3d9970")
_WIDTH = 6.4  # inches: on a telephone its letters are still to be read
SUBJECT_COLOURS = {"student": BLUE, "content_student": ORANGE}

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recdistill",
    "font.family": "sans-serif",
    "font.size": 8.8,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.labelsize": 8.4,
    "axes.titlesize": 9.2,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Mark:
    """A value with its interval, as a line of a :func:`forest` chart."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = GREY


@contextmanager
def _drawn(height: float) -> Any:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure


def _uri(figure: Figure) -> str:
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def forest(marks: Sequence[Mark], *, xlabel: str, zero: bool = False) -> str:
    """Values with intervals, one below the other; ``zero`` draws the line of no difference."""
    with _drawn(0.7 + 0.25 * len(marks)) as figure:
        axes: Axes = figure.subplots()
        rows = np.arange(len(marks))[::-1]
        for row, mark in zip(rows, marks, strict=True):
            if mark.low is not None and mark.high is not None:
                axes.plot(
                    [mark.low, mark.high],
                    [row, row],
                    color=mark.colour,
                    linewidth=2.2,
                    solid_capstyle="round",
                    alpha=0.55,
                )
            axes.plot([mark.value], [row], "o", color=mark.colour, markersize=5.5)
        axes.set_yticks(rows, [mark.label for mark in marks], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_ylim(-0.7, len(marks) - 0.3)
        axes.set_xlabel(xlabel)
        if zero:
            axes.axvline(0, color=INK, linewidth=1)
        return _uri(figure)


def histograms(panels: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> str:
    """Panels side by side, each with the densities of its named samples over one common axis."""
    values = np.concatenate([sample for _, samples in panels for sample in samples.values()])
    low, high = (float(edge) for edge in np.quantile(values, [0.001, 0.999]))
    edges = np.linspace(low, high, 61)
    looks = {0: (BLUE, 0.55, "-"), 1: (GREY, 0.45, "-"), 2: (INK, 0.0, "--")}
    with _drawn(3.2) as figure:
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (title, samples) in zip(axes, panels, strict=True):
            for at, (name, sample) in enumerate(samples.items()):
                colour, fill, dash = looks[min(at, 2)]
                height, _ = np.histogram(sample, bins=edges, density=True)
                ax.stairs(height, edges, color=colour, fill=False, linewidth=1.4, linestyle=dash, label=name)
                if fill:
                    ax.stairs(height, edges, color=colour, fill=True, alpha=fill * 0.6, linewidth=0)
            ax.set_title(title)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            ax.set_xlabel("similarity")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=_columns(labels))
        return _uri(figure)


def curves(panels: Sequence[tuple[str, Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]]]) -> str:
    """Panels of curves; a name's several curves (seeds, folds) are thin lines of a colour, their mean a strong one.

    Curves of equal names have equal looks in all panels.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    looks = {
        name: (CYCLE[at % len(CYCLE)], ("-", "--", ":", "-.")[at // len(CYCLE) % 4]) for at, name in enumerate(names)
    }
    with _drawn(2.3 * rows + 0.22 * -(-len(names) // _columns(names))) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        handles: dict[str, Any] = {}
        for ax, (title, lines) in zip(axes, panels, strict=False):
            for name, repeats in lines.items():
                colour, dash = looks[name]
                for steps, values in repeats:
                    alpha = 1.0 if len(repeats) == 1 else 0.3
                    (line,) = ax.plot(
                        steps,
                        values,
                        color=colour,
                        linestyle=dash,
                        linewidth=1.4,
                        alpha=alpha,
                        marker="." if len(steps) < 3 else "",
                    )
                    handles.setdefault(name, line)
                if len(repeats) > 1:
                    (handles[name],) = ax.plot(*_mean(repeats), color=colour, linestyle=dash, linewidth=1.8)
            ax.set_title(title)
            ax.set_xlabel("step")
            ax.grid(axis="y")
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=_columns(names))
        return _uri(figure)


def frontiers(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    points: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    ylabel: str,
) -> str:
    """Named lines of x and y over common axes; ``points`` marks one place of some of them."""
    with _drawn(3.4 + 0.22 * -(-len(lines) // _columns(list(lines)))) as figure:
        axes: Axes = figure.subplots()
        for at, (name, (x, y)) in enumerate(lines.items()):
            colour, dash = CYCLE[at % len(CYCLE)], ("-", "--", ":", "-.")[at // len(CYCLE) % 4]
            axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.5, marker=".", markersize=4, label=name)
            if name in points:
                axes.plot(*points[name], "o", color=colour, markersize=8, markerfacecolor="white", markeredgewidth=1.8)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid()
        figure.legend(loc="outside lower left", ncols=_columns(list(lines)))
        return _uri(figure)


def stacked(rows: Sequence[tuple[str, Mapping[str, float]]], *, xlabel: str) -> str:
    """Horizontal bars made of named parts, the first part in the accent colour."""
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    greys = ("#c3c9d0", "#a5adb6", "#dde1e6", "#8b949e", "#eceff2", "#747d87", "#b4bbc3", "#d0d5db")
    hatches = ("", "///", "", "...", "", "xx", "\\\\\\", "")
    with _drawn(0.8 + 0.4 * len(rows) + 0.2 * -(-len(names) // _columns(names))) as figure:
        axes: Axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        left = np.zeros(len(rows))
        for at, name in enumerate(names):
            width = np.array([parts.get(name, 0.0) for _, parts in rows])
            colour = BLUE if at == 0 else greys[(at - 1) % len(greys)]
            hatch = "" if at == 0 else hatches[(at - 1) % len(hatches)]
            axes.barh(
                places,
                width,
                left=left,
                height=0.62,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.6,
                label=name,
            )
            left += width
        axes.set_yticks(places, [label for label, _ in rows], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", "\u202f"))
        figure.legend(loc="outside lower left", ncols=_columns(names))
        return _uri(figure)


def _mean(repeats: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the repeats that are still running, at every step that one of them has."""
    steps = np.unique(np.concatenate([steps for steps, _ in repeats]))
    values = [np.interp(steps, at, value, left=np.nan, right=np.nan) for at, value in repeats]
    return steps, np.nanmean(values, axis=0)


def _columns(labels: Sequence[str]) -> int:
    """Columns of a legend below a figure: as many as its longest label allows."""
    return max(1, min(3, 92 // (max(map(len, labels), default=0) + 6)))
