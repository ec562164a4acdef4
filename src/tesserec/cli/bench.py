"""`tesserec bench`: measurements on one's own data; replay goes through the past in blocks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn

from tesserec.cli.main import common
from tesserec.cli.output import Output

if TYPE_CHECKING:
    from tesserec.retokenization.replay import Cell
    from tesserec.training.loop import Progress as Trained

EXAMPLES = """examples:
  tesserec bench replay configs/beauty.yaml training.epochs=15 --workdir work/replay
  tesserec bench replay configs/ml100k.yaml --blocks 10 --policies frozen,retrain
  tesserec bench replay configs/demo.yaml data.generated_novel=0.2 --json
"""
COLUMNS = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
SHOWN = {
    "N@10": "ndcg@10",
    "R@50": "recall@50",
    "new N@10": "new_ndcg@10",
    "new R@50": "new_recall@50",
    "cold R@10": "cold_recall@10",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "policies of codes and updates of the model, block by block, tested on the next block"
    replay = actions.add_parser(
        "replay",
        help=text,
        description=f"{text[0].upper()}{text[1:]} (docs/retokenization.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("config", type=Path, help="a run's YAML (docs/configuration.md)")
    replay.add_argument(
        "overrides", nargs="*", metavar="a.b=1", help="values instead of the YAML's"
    )
    replay.add_argument("--data", type=Path, help="folder of the data, as data.path=FOLDER")
    replay.add_argument(
        "--blocks", type=int, default=4, help="updates after a base of 60 %% of events (default: 4)"
    )
    replay.add_argument(
        "--policies",
        type=_names,
        metavar="A,B",
        help="of codes, with commas between (default: all)",
    )
    replay.add_argument(
        "--updates",
        type=_names,
        metavar="A,B",
        help="of the model: none,tune,soft (default: none,tune)",
    )
    replay.add_argument(
        "--cases", type=int, help="events of a block that are asked (default: 5000)"
    )
    common(replay)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def execute(options: argparse.Namespace, out: Output) -> int:
    from tesserec.config import load_config
    from tesserec.locks import exclusive
    from tesserec.retokenization import replay as library
    from tesserec.steps import ingest

    overrides = [f"data.path={options.data}"] if options.data else []
    config = load_config(options.config, [*overrides, *options.overrides])
    workdir: Path = options.workdir.resolve()
    rows: list[dict[str, Any]] = []
    busy = f"another run is working in {workdir}; wait for it or stop it"
    with (
        exclusive(workdir / ".lock", busy=busy),
        Progress(*COLUMNS, console=out.errors, transient=True) as bar,
    ):
        shown = _Shown(bar)
        for row in library.replay(
            workdir,
            config,
            ingest.run(workdir, config),
            blocks=options.blocks,
            policies=options.policies or library.ALL,
            updates=options.updates or ("none", "tune"),
            cases=library.CASES if options.cases is None else options.cases,
            on_row=shown.begin,
            on_progress=shown.train,
        ):
            rows.append(row)
            out.note("  " + "  ".join(_cells(row)))
    out.result({"workdir": str(workdir), "rows": rows})
    _tell(out, rows)
    return 0


class _Shown:
    """The bar: cells that are done, and how far the model of the running one is."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None, state="")

    def begin(self, done: int, total: int, cell: Cell) -> None:
        words = f"block {cell.block} {cell.policy} {cell.update}"
        self._bar.update(self._task, description=words, completed=done, total=total, state="")

    def train(self, now: Trained) -> None:
        words = (
            f"epoch {now.epoch}/{now.epochs} · loss {now.loss:.3f} · {now.seconds_left:.0f} s left"
        )
        self._bar.update(self._task, state=words)


def _cells(row: Mapping[str, Any]) -> list[str]:
    figures = ["" if row[k] is None else f"{row[k]:.4f}" for k in SHOWN.values()]
    named = [str(row["block"]), f"{row['policy']:<11}", f"{row['update']:<7}"]
    return [*named, *figures, f"{row['churn']:6.1%}", f"{row['seconds']:.1f}"]


def _tell(out: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ["block", "policy", "update", *SHOWN, "churn", "seconds"]
    title = "policies at the end of each block, tested on the next; new: items of that block alone"
    out.table(title, columns, [_cells(row) for row in rows], left=3)
