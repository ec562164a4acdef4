"""The pictures of a report of freshness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tesserec.report.plots import COLORS, DASHES, INK, SIZE, blank, figure_of, ink, legend, uri

MARKS = {"run": "s", "encode": "o", "maintain": "^", "rebuild": "D"}
UNITS = ((1, "1 s"), (10, "10 s"), (60, "1 min"), (900, "15 min"), (3600, "1 h"), (86400, "1 d"))


def lag_curves(curves: Mapping[str, Sequence[float]], objective_s: float) -> str:
    """Share of new items that took at most so long, one line a hop of 101 quantiles."""
    figure, axes = figure_of(SIZE)
    highest = objective_s
    for number, (name, seconds) in enumerate(curves.items()):
        share = [q / (len(seconds) - 1) for q in range(len(seconds))]
        at = [max(s, 0.5) for s in seconds]
        highest = max(highest, *at)
        axes.step(
            [*at, at[-1] * 4], [*share, 1], DASHES[number % 4], where="post",
            color=COLORS[number % 4], label=name,
        )  # fmt: skip
    axes.axvline(objective_s, color=INK, linewidth=1.2, linestyle=":")
    axes.annotate("objective", (objective_s, 0.03), color=INK, fontsize=8, rotation=90, ha="right")
    axes.set_xscale("log")
    axes.set_xlim(0.5, highest * 2)
    shown = [(s, text) for s, text in UNITS if s <= highest * 2]
    axes.set_xticks([s for s, _ in shown], [text for _, text in shown])
    axes.minorticks_off()
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("share of items")
    legend(axes, columns=2)
    return uri(figure)


def digit_bars(values: Sequence[float], label: str, limit: float | None) -> str:
    """A bar a digit, and the budget as a line."""
    figure, axes = figure_of(SIZE)
    axes.bar(range(len(values)), values, 0.8, color=COLORS[0], edgecolor=INK, linewidth=0.4)
    if limit is not None:
        axes.axhline(limit, color=COLORS[1], linestyle="--", label="budget (mean of the digits)")
        legend(axes)
    axes.set_xlabel("digit")
    axes.set_ylabel(label)
    axes.locator_params(axis="x", integer=True)
    return uri(figure)


def before_after(before: Sequence[float] | None, after: Sequence[float], label: str) -> str:
    """By digit, of the parent and of this release."""
    figure, axes = figure_of(SIZE)
    lines = {"before": before, "now": after}
    for number, (name, values) in enumerate(lines.items()):
        if values:
            axes.plot(
                range(len(values)), values, DASHES[1 - number], color=COLORS[1 - number],
                label=name, marker="os"[number], markersize=3,
            )  # fmt: skip
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("digit")
    axes.set_ylabel(label)
    axes.locator_params(axis="x", integer=True)
    legend(axes)
    return uri(figure)


def drift_bands(tests: Sequence[Mapping[str, Any]]) -> str:
    """A row a test, each on a scale of its own: the effect, and the band of chance beside it."""
    figure = blank((SIZE[0], 0.8 + 0.6 * len(tests)))
    for row, test in enumerate(tests):
        axes = figure.add_subplot(len(tests), 1, row + 1)
        ink(axes)
        marks = [test["effect"], test["null"], test["floor"] or 0.0, 0.0]
        low, high = min(marks), max(marks)
        pad = 0.12 * ((high - low) or 1.0)
        axes.set_xlim(low - pad, high + pad)
        axes.axvspan(low - pad, test["null"], color=COLORS[2], alpha=0.25, label="95 % of chance")
        axes.plot(test["effect"], 0, "D", color=COLORS[0], markersize=7, label="effect")
        if test["floor"] is not None:
            axes.axvline(test["floor"], color=COLORS[1], linestyle=":", label="least to act on")
        axes.set_yticks([0], [test["test"]])
        axes.set_ylim(-1, 1)
        axes.locator_params(axis="x", nbins=5)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        if row == 0:
            legend(axes)
    return uri(figure)


def ages(by_hour: Sequence[int]) -> str:
    """Items in quarantine by hours; the last bar: a day and more."""
    figure, axes = figure_of(SIZE)
    colors = [COLORS[0]] * (len(by_hour) - 1) + [COLORS[1]]
    axes.bar(range(len(by_hour)), by_hour, 0.9, color=colors, edgecolor=INK, linewidth=0.4)
    ticks = [*range(0, len(by_hour) - 1, 6), len(by_hour) - 1]
    axes.set_xticks(ticks, [*[str(t) for t in ticks[:-1]], f"{ticks[-1]}+"])
    axes.set_xlabel("hours in quarantine")
    axes.set_ylabel("items")
    axes.locator_params(axis="y", integer=True)
    return uri(figure)


def timeline(releases: Sequence[Mapping[str, Any]]) -> str:
    """When each release was made, a row a cadence; the promoted one has a ring."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    figure, axes = figure_of((SIZE[0], 2.2))
    moments = [float(date2num(datetime.fromtimestamp(r["created_at"], UTC))) for r in releases]
    for number, (cadence, mark) in enumerate(MARKS.items()):
        for at, one in zip(moments, releases, strict=True):
            if one["cadence"] != cadence:
                continue
            axes.plot(at, number, mark, color=COLORS[number], markersize=6)
            if one["promoted"]:
                axes.plot(at, number, "o", color=INK, markersize=13, fillstyle="none")
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    pad = max(0.08 * (max(moments) - min(moments)), 1 / 24)  # days
    axes.set_xlim(min(moments) - pad, max(moments) + pad)
    axes.set_yticks(range(len(MARKS)), list(MARKS))
    axes.set_ylim(-0.6, len(MARKS) - 0.4)
    return uri(figure)
