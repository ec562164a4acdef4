"""Pictures of quality: against digits, against training time, against decoding time.

    python benchmarks/quality_curves.py                    draws docs/img/quality_*.svg
    python benchmarks/quality_curves.py NAME=WORKDIR ...   adds runs first, each by a name

The figures lie in docs/img/quality.json, so that the pictures can be drawn anew without the runs;
it names what each was measured with. A run gives its validation curve over training time
(`history.jsonl` of its model, `speed.jsonl` beside its logs) and, with its number of digits, its
test figure. The points of decoding time come from quality_decoding.py.
"""

from __future__ import annotations

import json
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from tesserec.artifacts import open_artifact

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "img"
FIGURES = FOLDER / "quality.json"
MODEL = "rpg"
mpl.use("svg")
# no dates and no random ids: equal figures give equal files
mpl.rcParams.update({"svg.hashsalt": "quality", "svg.fonttype": "none"})
mpl.rcParams.update({"font.size": 9, "axes.grid": True})


def add(figures: dict[str, Any], name: str, workdir: Path) -> None:
    """The curve and the figure of a finished run of RPG."""
    artifacts = workdir / "artifacts"
    models = [p for p in artifacts.glob("model-*") if _params(p)["model"]["name"] == MODEL]
    model = open_artifact(max(models, key=lambda p: p.stat().st_mtime))
    metrics = open_artifact(max(artifacts.glob("metrics-*"), key=lambda p: p.stat().st_mtime))
    table = metrics.read_json("metrics.json")
    found = table if table.get("model") == MODEL else table["baselines"].get(MODEL, table)
    logs = workdir / "reports" / "logs" / model.path.name / "speed.jsonl"
    # by epoch: one that a killed run had to repeat stands there twice
    seconds = {line["epoch"]: line["seconds"] for line in _lines(logs)}
    passed = dict(zip(seconds, accumulate(seconds.values()), strict=True))
    points = [
        [round(passed[line["epoch"]] / 60, 2), round(line["val_ndcg@10"], 4)]
        for line in _lines(model.file("history.jsonl"))
        if "val_ndcg@10" in line
    ]
    digits = json.loads(model.file("model.json").read_text())["shape"]["digits"]
    figures["training"][name] = points
    figures["digits"].setdefault(name, []).append([digits, round(found["kept"]["ndcg@10"], 4)])


def _params(path: Path) -> dict[str, Any]:
    return open_artifact(path).manifest["params"]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw(figures: dict[str, Any]) -> None:
    fig, axes = _picture("digits of an item (m)", "NDCG@10, seen kept")
    for name, points in figures["digits"].items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(m := sorted({p[0] for ps in figures["digits"].values() for p in ps}), m)
    _write(fig, axes, "quality_digits")

    fig, axes = _picture("minutes of training", "validation NDCG@10, seen kept")
    for name, points in figures["training"].items():
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    _write(fig, axes, "quality_training")

    fig, axes = _picture("ms of one core a user, batches of 64", "NDCG@10, seen kept")
    for name, points in figures["decoding"].items():
        axes.plot(*zip(*points, strict=True), marker="o", linestyle="none", label=name)
    axes.set_xscale("log")
    _write(fig, axes, "quality_decoding")


def _picture(x: str, y: str) -> tuple[Any, Any]:
    fig, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return fig, axes


def _write(fig: Any, axes: Any, name: str) -> None:
    axes.legend(fontsize=8)
    fig.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(fig)
    print(FOLDER / f"{name}.svg")


def main() -> None:
    figures = json.loads(FIGURES.read_text())
    for pair in sys.argv[1:]:
        name, _, workdir = pair.partition("=")
        if not (Path(workdir) / "artifacts").is_dir():
            raise SystemExit(f"{pair!r} is no NAME=WORKDIR of a finished run")
        add(figures, name, Path(workdir))
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    draw(figures)


if __name__ == "__main__":
    main()
