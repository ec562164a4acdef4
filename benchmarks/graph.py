"""The graph decoder beside the exact scan: recall, items visited, time, and what its graph costs.

    make bench-graph            QUICK=1: 20 k generated items, fewer users
    python benchmarks/graph.py --workdir work/beauty [--whole]

With a workdir that has a promoted release of RPG, or of a fusion with one: its items, model, and
test histories. Without: 12 k generated items in their place; nothing is trained. Then a catalogue
of 1 M generated items, in which kinds of kinds of items share codes, with users who like items of
four kinds.

A walk reads only the edges of the items that it goes on from. So the large graph is made only
for those (as they would be in the whole graph), and the time of the whole is that of a sample times
1 M; `--whole` builds all its 100 edges an item and tells the time and the greatest memory. Times
are of the thread's own clock, on one core; both decoders take turns. Writes build/bench/graph.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import machine

from tesserec.decoders.graph import STARTS, GraphDecoder
from tesserec.decoders.graph_build import Similarity, build_edges, edges_of, insert_edges
from tesserec.decoders.graph_walk import LAST_ROW, walk
from tesserec.decoders.scan import Scan

ROOT = Path(__file__).resolve().parents[1]
QUICK = bool(os.environ.get("QUICK"))
LARGE = 20_000 if QUICK else 1_000_000
USERS = 64 if QUICK else 128
SAMPLES = 3
DIGITS, CODES, TOP = 32, 256, 10
SETTINGS = (  # start, b, k, q
    ("random", 10, 100, 3),  # the paper's for Beauty
    ("random", 20, 200, 3),  # its repository's
    ("random", 50, 500, 2),  # re-tuned by a replication
    ("ours", 10, 100, 3),
    ("ours", 50, 100, 3),
    ("ours", 50, 500, 2),
)
HEAD = (
    f"{'catalogue':20} {'start':>7} {'b':>3} {'k':>3} {'q':>2} {'recall':>7} {'visited':>8} "
    f"{'graph':>9} {'scan':>9} {'graph, 1':>9} {'scan, 1':>9} ms/user in batches of 64, and of 1"
)


@dataclass
class Case:
    name: str
    codes: np.ndarray  # uint8 [N, m]
    tokens: torch.Tensor  # float32 [m, K, d]
    states: torch.Tensor  # float32 [B, m, K]
    popularity: np.ndarray  # [N]


def generated(items: int, users: int, seed: int = 1) -> Case:
    """Items of kinds (16 a kind), of kinds of kinds, of sorts of these; codes of parts of vectors.

    The numbers are chosen so that tokens, states and scores spread about as those of a model
    trained on Beauty: cosines of tokens .1 around 0, a digit's entropy 5 of 5.5 nats.
    """
    rng = np.random.default_rng(seed)
    counts = (max(items // 10_000, 4), max(items // 400, 8), max(items // 16, 16))
    parent = [rng.integers(0, a, b) for a, b in pairwise(counts)]
    share = 1 / np.arange(1, counts[2] + 1) ** 0.5
    kind = rng.choice(counts[2], items, p=share / share.sum())
    codes = np.empty((items, DIGITS), np.uint8)
    tokens = np.empty((DIGITS, CODES, 96), np.float32)
    for j in range(DIGITS):
        top, middle, low = (0.5 * rng.normal(size=(n, 4)).astype(np.float32) for n in counts)
        centre = low + middle[parent[1]] + top[parent[0][parent[1]]]
        vectors = centre[kind] + 0.3 * rng.standard_normal((items, 4), dtype=np.float32)
        book = vectors[rng.choice(items, CODES, replace=False)]
        half = np.square(book).sum(1) / 2
        for start in range(0, items, 16_384):
            part = slice(start, start + 16_384)
            codes[part, j] = (half - vectors[part] @ book.T).argmin(1)
        near = np.tanh(book @ rng.normal(size=(4, 96)).astype(np.float32))
        tokens[j] = 0.1 * near + 0.3 * rng.normal(size=(CODES, 96))
    unit = torch.nn.functional.normalize(torch.from_numpy(tokens), dim=-1)
    popularity = rng.pareto(1.2, items) + 0.1
    states = users_of(codes, unit.numpy(), kind, popularity, users)
    return Case(f"{items:,} generated", codes, unit, states, popularity)


def users_of(
    codes: np.ndarray, tokens: np.ndarray, kind: np.ndarray, popularity: np.ndarray, users: int
) -> torch.Tensor:
    """A user's query of a digit: the mean token of three items of each of four kinds, and noise."""
    rng = np.random.default_rng(2)
    order = np.argsort(kind, kind="stable")
    bounds = np.searchsorted(kind[order], np.arange(kind.max() + 2))
    some = rng.choice(len(codes), (users, 4), p=popularity / popularity.sum())
    states = np.empty((users, DIGITS, CODES), np.float32)
    for user in range(users):
        liked = []
        for like in kind[some[user]]:
            rows = order[bounds[like] : bounds[like + 1]]
            liked.append(rng.choice(rows, 3, p=popularity[rows] / popularity[rows].sum()))
        weight = rng.dirichlet(np.full(12, 2.0))
        own = tokens[np.arange(DIGITS), codes[np.concatenate(liked)]]
        query = unit_length((weight[:, None, None] * own).sum(0))
        query = unit_length(query + 1.5 / 96**0.5 * rng.normal(size=query.shape))
        states[user] = np.einsum("jkd,jd->jk", tokens, query) * 5
    return torch.log_softmax(torch.from_numpy(states), -1)


def unit_length(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def released(workdir: Path, users: int) -> Case:
    """The promoted release of a workdir, with the last item of a user as target."""
    import pyarrow.parquet as pq

    from tesserec.recommender import Recommender
    from tesserec.release import promoted

    whole = Recommender.load(workdir / "releases" / str(promoted(workdir)))
    found = whole.parts().get("rpg", whole)
    model: Any = found._model  # the benchmark looks inside
    table = pq.read_table(next((workdir / "artifacts").glob("features-*")) / "sequences")
    lists = [items for items in table["item_ids"].to_pylist() if len(items) > 1]
    picked = np.random.default_rng(3).choice(len(lists), users, replace=False)
    histories = [found.rows(lists[i][:-1]) for i in picked]
    assert found.codes is not None
    states = torch.cat([model.state(histories[i : i + 64]) for i in range(0, users, 64)])
    return Case(f"{workdir.name} release", found.codes, model.tokens, states, found._popularity)


# ---- measuring ----


def clock(run: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.thread_time()
    run()
    return 1e3 * (time.thread_time() - started)


def starts_of(case: Case, kind: str, beam: int) -> list[np.ndarray]:
    """The paper's start (drawn anew for each user) or ours (the most popular items)."""
    if kind == "ours":
        return [np.argsort(-case.popularity, kind="stable")[:STARTS]] * len(case.states)
    rng = np.random.default_rng(4)
    return [rng.integers(0, len(case.codes), beam) for _ in case.states]


class Walks:
    """Walks over a graph that grows by the edges that they read."""

    def __init__(self, case: Case, widest: int) -> None:
        self.case, self.similarity = case, Similarity.of(case.tokens)
        self.edges = np.empty((len(case.codes), widest), np.int32)
        self.known = np.zeros(len(case.codes), bool)

    def whole(self) -> None:
        width = self.edges.shape[1]
        started = time.perf_counter()
        self.edges = build_edges(self.case.codes, self.similarity, width)
        self.known[:] = True
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{self.case.name}: graph of {width} edges in {time.perf_counter() - started:.0f} s "
            f"of one thread, peak memory {peak:,.0f} MiB",
            flush=True,
        )

    def prepare(self, starts: list[np.ndarray], beam: int, width: int, steps: int) -> None:
        """Make the edges that the walks of these users will read."""
        for step in range(steps):
            wanted = []
            for state, begin in zip(self.case.states.numpy(), starts, strict=True):
                keys = np.sort(self._keys(state, begin, beam, width, step))[::-1][:beam]
                wanted.append(LAST_ROW - (keys & np.uint64(LAST_ROW)).astype(np.int64))
            rows = np.unique(np.concatenate(wanted))
            rows = rows[~self.known[rows]]
            if len(rows):
                found = edges_of(rows, self.case.codes, self.similarity, self.edges.shape[1])
                self.edges[rows], self.known[rows] = found, True

    def _keys(
        self, state: np.ndarray, begin: np.ndarray, beam: int, width: int, steps: int
    ) -> np.ndarray:
        items = len(self.case.codes)
        most = min(items, len(begin) + steps * beam * width)
        room = (*np.zeros((2, items // 8 + 1), np.uint8), np.empty(most, np.int32))
        room = (*room, np.empty(most, np.uint64))
        return walk(state, self.case.codes, self.edges[:, :width], begin, beam, steps, room)[0]


def measure(case: Case, walks: Walks, exact: np.ndarray, scan: Scan) -> list[dict[str, Any]]:
    rows = []
    for start, beam, width, steps in SETTINGS:
        starts = starts_of(case, start, beam)
        walks.prepare(starts, beam, width, steps)
        edges = np.ascontiguousarray(walks.edges[:, :width])
        decoder = GraphDecoder(case.codes, edges, scan, beam=beam, steps=steps)
        decoder.starts = starts[0] if start == "ours" else np.empty(0, np.int64)
        own = None if start == "ours" else starts
        rows.append(row_of(case, start, decoder, own, exact, scan))
        print_row(rows[-1])
    return rows


def row_of(
    case: Case,
    start: str,
    decoder: GraphDecoder,
    starts: list[np.ndarray] | None,
    exact: np.ndarray,
    scan: Scan,
) -> dict[str, Any]:
    found, _ = decoder.rank(case.states, TOP, starts=starts)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    visited, fallbacks = decoder.visited / decoder.walks, decoder.fallbacks
    samples: dict[str, list[float]] = {"ours": [], "baseline": [], "ours_1": [], "baseline_1": []}
    for sample in range(SAMPLES):
        few = slice(64 * sample % len(case.states), 64 * sample % len(case.states) + 64)
        own = None if starts is None else starts[few]
        runs = {
            "ours": lambda s=few, o=own: decoder.rank(case.states[s], TOP, starts=o),
            "baseline": lambda s=few: scan.rank(case.states[s], TOP),
        }
        for name, ask in runs.items():
            samples[name].append(clock(ask) / len(case.states[few]))
        for user in range(few.start, few.start + 8):
            one = slice(user, user + 1)
            own = None if starts is None else starts[one]
            samples["ours_1"].append(
                clock(lambda s=one, o=own: decoder.rank(case.states[s], TOP, starts=o))
            )
            samples["baseline_1"].append(clock(lambda s=one: scan.rank(case.states[s], TOP)))
    middle = {name: float(np.median(times)) for name, times in samples.items()}
    sizes = {"items": len(case.codes), "digits": case.codes.shape[1], "batch": 64}
    sizes |= {"beam": decoder.beam, "edges": decoder.edges.shape[1], "steps": decoder.steps}
    return {
        "name": case.name,
        "start": start,
        **middle,
        "ratio": middle["baseline"] / middle["ours"],
        "unit": "ms/user",
        "recall": float(np.mean(hits)) / TOP,
        "visited": visited / len(case.codes),
        "fallbacks": fallbacks / len(case.states),
        "sizes": sizes,
        "samples": samples,
    }


def print_row(row: dict[str, Any]) -> None:
    sizes = row["sizes"]
    print(
        f"{row['name']:20} {row['start']:>7} {sizes['beam']:3} {sizes['edges']:3} "
        f"{sizes['steps']:2} {row['recall']:7.3f} {row['visited']:8.4f} {row['ours']:9.3f} "
        f"{row['baseline']:9.3f} {row['ours_1']:9.3f} {row['baseline_1']:9.3f}",
        flush=True,
    )


def build_row(case: Case, walks: Walks) -> dict[str, Any]:
    """What a graph of 100 edges takes, by a sample of items, and what inserting 64 takes."""
    sample = np.arange(0, len(case.codes), max(1, len(case.codes) // 512))
    each = clock(lambda: edges_of(sample, case.codes, walks.similarity, 100)) / len(sample)
    small = case.codes[:20_000]
    old = build_edges(small[:-64], walks.similarity, 100)
    insert = clock(lambda: insert_edges(old, small, walks.similarity))
    print(
        f"{case.name}: 100 edges of an item in {each:.3f} ms, {each * len(case.codes) / 60e3:.1f} "
        f"core minutes for all; 64 items inserted into {len(old):,} in {insert:.0f} ms"
    )
    whole = each * len(case.codes) / 1e3
    row = {"name": f"{case.name}, graph of 100 edges", "ours": whole, "unit": "core seconds"}
    return {**row, "sizes": {"items": len(case.codes), "sample": len(sample)}, "insert_ms": insert}


def whole_row(case: Case, walks: Walks) -> dict[str, Any]:
    """The whole graph of 100 edges an item, in one go."""
    began, spent = time.perf_counter(), time.thread_time()
    edges = build_edges(case.codes, walks.similarity, 100)
    spent, wall = time.thread_time() - spent, time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{case.name}: the whole graph, {edges.shape[0]:,} x {edges.shape[1]} edges, in "
        f"{spent / 60:.1f} core minutes ({wall / 60:.1f} by the clock); "
        f"greatest memory {peak:.2f} GiB"
    )
    sizes = {"items": len(case.codes), "edges": 100, "peak_gib": peak, "wall_s": wall}
    name = f"{case.name}, whole graph"
    return {"name": name, "ours": spent, "unit": "core seconds", "sizes": sizes}


def run(case: Case, *, small: bool, whole: bool) -> list[dict[str, Any]]:
    """All settings of one catalogue; a `small` one has its whole graph built for them."""
    scan = Scan(case.codes, case.states.shape[2])
    exact, _ = scan.rank(case.states, TOP)
    walks = Walks(case, max(width for _, _, width, _ in SETTINGS))
    if small:
        walks.whole()
    rows = [*measure(case, walks, exact, scan), build_row(case, walks)]
    return [*rows, whole_row(case, walks)] if whole else rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", type=Path, help="with a promoted release of RPG or a fusion")
    parser.add_argument("--whole", action="store_true", help="build the whole graph of 1 M items")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD)
    if options.workdir is None:
        print("no --workdir: generated items and users stand in for a trained model")
        first = generated(12_101, USERS)
    else:
        first = released(options.workdir, USERS)
    rows = run(first, small=True, whole=False)
    rows += run(generated(LARGE, USERS), small=False, whole=options.whole)
    target = ROOT / "build" / "bench" / "graph.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    here = machine() | {"threads": torch.get_num_threads(), "peak_mib": peak}
    report = {"baseline": "exact scan", "machine": here, "rows": rows}
    target.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
