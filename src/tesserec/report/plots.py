"""The report's pictures: SVG as data URIs, readable on light and on dark ground."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#7a7f87"  # at least 4:1 on white and on the dark ground
COLORS = ("#3b82f6", "#e8710a", "#12a150", "#a855f7")
DASHES = ("-", "--", ":", "-.")  # colour is never the only difference
SIZE = (4.6, 2.9)  # inches: text stays legible when a phone scales it to 350 px


def code_heat_map(codes: np.ndarray, codebook_size: int) -> str:
    """How often each code of each digit is used, of codes [N, m], as m rows and K columns."""
    from matplotlib.ticker import MaxNLocator

    counts = np.stack(
        [
            np.bincount(codes[:, d].astype(np.int64), minlength=codebook_size)
            for d in range(codes.shape[1])
        ]
    )
    relative = counts / max(len(codes), 1) * codebook_size  # 1: as often as if all were used alike
    figure, axes = figure_of((9.2, 1.4 + min(codes.shape[1], 64) * 0.07))
    shown = np.ma.masked_equal(np.clip(relative, 0, 4), 0)
    picture = axes.imshow(
        shown, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, vmax=4
    )
    axes.set_xlabel("code")
    axes.set_ylabel("digit")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(picture, ax=axes, pad=0.015, ticks=[0, 1, 2, 3, 4])
    bar.ax.set_yticklabels(["0", "1", "2", "3", "≥4"])
    bar.set_label("use, 1 = even")
    ink(bar.ax)
    return uri(figure)


def curves(history: Sequence[Mapping[str, Any]], keys: Sequence[str], label: str) -> str:
    """Values over epochs, one line a key; epochs without the key are left out."""
    figure, axes = figure_of(SIZE)
    for number, key in enumerate(keys):
        points = [(h["epoch"], h[key]) for h in history if h.get(key) is not None]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        axes.plot(
            x,
            y,
            DASHES[number % 4],
            color=COLORS[number % 4],
            label=key.removeprefix("val_"),
            marker="o",
            markersize=2.5,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    epochs = sorted({h["epoch"] for h in history})
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    if len(epochs) <= 12:
        axes.set_xticks(epochs)
    else:
        axes.locator_params(axis="x", integer=True)
    if len(keys) > 1:
        legend(axes)
    return uri(figure)


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], label: str, x: str) -> str:
    """Grouped bars: one group a label, one bar a series."""
    figure, axes = figure_of(SIZE)
    width = 0.8 / max(len(series), 1)
    at = np.arange(len(labels))
    for number, (name, values) in enumerate(series.items()):
        axes.bar(
            at + (number - (len(series) - 1) / 2) * width,
            values,
            width,
            color=COLORS[number % 4],
            hatch=("", "//", "..", "xx")[number % 4],
            edgecolor=INK,
            linewidth=0.4,
            label=name,
        )
    axes.set_xticks(at, labels)
    axes.set_ylabel(label)
    axes.set_xlabel(x)
    if len(series) > 1:
        legend(axes)
    return uri(figure)


def blank(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    return Figure(figsize=size, layout="constrained")


def figure_of(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, in the style of all."""
    figure = blank(size)
    axes = figure.add_subplot()
    ink(axes)
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def ink(axes: Axes) -> None:
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def legend(axes: Axes, columns: int = 4) -> None:
    axes.legend(
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        columnspacing=1.2,
        handlelength=1.6,
        borderaxespad=0.2,
    )


def uri(figure: Figure) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # The salt and the missing date make equal data give equal bytes.
    with matplotlib.rc_context({"svg.hashsalt": "tesserec", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
