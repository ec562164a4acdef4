"""New items into a running server, and into a table of a million.

    make bench-encode    WORK=folder (default build/bench/encode); PARTS=live,scale; QUICK=1
                         ITEMS=1000000 NEW=10000 for the second part

live: a generated shop is run and served; a load asks all the time; 500 new items (`data make
--new-items`) go through `tesserec retokenize encode`. Told: seconds by step, failed requests, codes
that changed, and who gets a new item, with and without `quota_new`, beside a nearest-neighbour
search in content. Then an item is withdrawn, events are pushed, and the release is rolled back.
scale: a table of generated items and as many new ones as NEW, whose vectors are at hand; seconds
and memory of `retokenize encode`, and the sizes of the delta and of the whole release.
Writes build/bench/encode.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from change import begin
from features import machine
from serving.shops import trained
from serving.tables import million

from tesserec.config import ChangeSettings, LookupSettings, ServeSettings
from tesserec.data.make import make_shop
from tesserec.release import promoted, release_folder, rollback
from tesserec.release.manifest import read_release
from tesserec.retokenization.stock import Stock, open_stock
from tesserec.retokenization.vectors import item_vectors
from tesserec.serving import triton
from tesserec.serving.client import Recommender

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "bench"
QUICK = bool(os.environ.get("QUICK"))
WORK = Path(os.environ.get("WORK") or OUT / "encode").resolve()
PARTS = os.environ.get("PARTS", "live,scale").split(",")
ITEMS = int(os.environ.get("ITEMS") or (100_000 if QUICK else 1_000_000))
NEW = int(os.environ.get("NEW") or (1_000 if QUICK else 10_000))
SHOP, SHOP_NEW = {"users": 3000, "items": 1200, "seed": 1}, 500
ASKED, K, LAST = 200, 10, 10  # users; items a list; last items of a history whose mean is sought
PATIENCE_S = 120.0


# ---- live ----


def live() -> dict[str, Any]:
    before, after = WORK / "shop", WORK / "shop-new"
    make_shop(before, **SHOP)
    make_shop(after, **SHOP, new_items=SHOP_NEW)
    settings = ["data.source=tesserec", f"data.path={before}"]
    if promoted(WORK / "run") is None:  # one that is there is taken as it is
        trained(WORK / "run", "demo.yaml", settings)
    workdir = copied(WORK / "run", WORK / "live")
    parent = open_stock(workdir)
    # untrained enough that many answers of the parent differ; and no late store on a busy machine
    serve = ServeSettings(
        change=ChangeSettings(agreement=0.0), features=LookupSettings(budget_ms=10_000)
    )
    wishes = pq.read_table(after / "wishes.parquet").to_pydict()
    with triton.start(workdir, ROOT, settings=serve) as server:
        load = begin(server.grpc, sorted(set(wishes["user_id"]))[:500])
        try:
            while not load.answers:
                time.sleep(0.1)
            told, took = encode(workdir, [f"data.path={after}"])
            until = load.answers + 500
            while load.answers < until and load.process.poll() is None:
                time.sleep(0.1)
        finally:
            result = load.stop()
        print_steps(told, took)
        stock = open_stock(workdir)
        row = {
            "seconds": told["seconds"],
            **took,
            "new_items": told["new_items"],
            "reachable": told["reachable"],
            "served": told["served"],
            "requests": result["requests"],
            "failed": sum(result["errors"].values()),
            "errors": result["errors"],
            "longest_ms": result["longest_ms"],
            "codes_changed": int((stock.codes[: len(parent.codes)] != parent.codes).any(1).sum()),
        }
        with Recommender(server.grpc, timeout_s=30) as client:
            row |= reach(client, workdir, stock, wishes)
            row["withdrawn_s"] = withdrawn_after(client, workdir, stock)
            row["rollback_s"] = back_after(client, workdir, parent.release_id)
    return row


def copied(source: Path, target: Path) -> Path:
    """A workdir that may be changed; its feature store lies in it too."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("reports", "serving"))
    for path in (target / "feature_store").glob("*.yaml"):
        path.write_text(path.read_text().replace(str(source), str(target)))
    return target


def encode(workdir: Path, arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """What `tesserec retokenize encode` tells, and what the command took."""
    command = [sys.executable, "-m", "tesserec.cli", "retokenize", "encode", "--json"]
    environment = os.environ | {"TESSEREC_PROJECT": str(ROOT)}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, "--workdir", str(workdir), *arguments],
            stdout=out, stderr=errors, env=environment,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        out.seek(0)
        errors.seek(0)
        told, said = out.read(), errors.read()
    if process.returncode:
        raise SystemExit(f"encode ended with {process.returncode}:\n{said[-3000:]}")
    print(said, end="")
    return json.loads(told), {
        "command_s": round(seconds, 2),
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }


def print_steps(told: dict[str, Any], took: dict[str, float]) -> None:
    for name, value in told["seconds"].items():
        print(f"  {name:<12} {value:8.2f} s")
    print(
        f"  {'command':<12} {took['command_s']:8.2f} s, {took['processor_s']:.1f} s of a core, "
        f"largest memory {took['peak_mib']:,.0f} MiB",
        flush=True,
    )


def reach(
    client: Recommender, workdir: Path, stock: Stock, wishes: dict[str, list[str]]
) -> dict[str, Any]:
    """Shares of the users who get a new item (not trained on, as `quota_new` has it; some of the
    old ones are new too), and one of those that they look for."""
    wanted: dict[str, set[str]] = {}
    for user, item in zip(wishes["user_id"], wishes["item_id"], strict=True):
        wanted.setdefault(user, set()).add(item)
    users = sorted(wanted)[:ASKED]
    trained_on = stock.items["trained"].to_pylist()
    new = {item for item, known in zip(stock.item_ids, trained_on, strict=True) if not known}
    answers = {
        "quota_new 1": [client.recommend(user_id=u, k=K, rules={"quota_new": 1}) for u in users],
        "no quota": [client.recommend(user_id=u, k=K) for u in users],
    }
    lists = {name: [a.item_ids for a in found] for name, found in answers.items()}
    lists["content kNN"] = neighbours(workdir, stock, users)
    row: dict[str, Any] = {"asked": len(users)}
    for name, found in lists.items():
        some = [bool(new & set(items)) for items in found]
        own = [bool(wanted[u] & set(items)) for u, items in zip(users, found, strict=True)]
        row[name] = {"a new item": float(np.mean(some)), "one looked for": float(np.mean(own))}
        print(f"  {name:<12} a new item {np.mean(some):7.1%}, one looked for {np.mean(own):7.1%}")
    return row


def neighbours(workdir: Path, stock: Stock, users: Sequence[str]) -> list[list[str]]:
    """For each user the items nearest to the mean of the last ones, by cosine; no seen ones."""
    vectors = np.asarray(item_vectors(workdir, stock), np.float32)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    key = stock.manifest["sources"]["features"]
    table = pq.read_table(workdir / "artifacts" / f"features-{key}" / "sequences").to_pydict()
    history = dict(zip(table["user_id"], table["item_ids"], strict=True))
    row_of = {item: row for row, item in enumerate(stock.item_ids)}
    found = []
    for user in users:
        rows = [row_of[item] for item in history[user]]
        scores = vectors @ vectors[rows[-LAST:]].mean(axis=0)
        scores[rows] = -np.inf
        found.append([stock.item_ids[r] for r in np.argsort(-scores, kind="stable")[:K]])
    return found


def withdrawn_after(client: Recommender, workdir: Path, stock: Stock) -> float:
    """Seconds from the writing of the overlay until nobody is shown the item any more."""
    item = stock.item_ids[-1]
    rules = {"allow": [item]}
    assert client.recommend(user_id="U000001", k=1, rules=rules).item_ids == [item]
    began = time.monotonic()
    (workdir / "overlay").mkdir(exist_ok=True)
    (workdir / "overlay" / "withdrawn").write_text(item + "\n")
    while client.recommend(user_id="U000001", k=1, rules=rules).item_ids:
        if time.monotonic() - began > PATIENCE_S:
            raise SystemExit(f"{item} is still shown after {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    seconds = round(time.monotonic() - began, 2)
    print(f"  withdrawn    {seconds:8.2f} s until it vanished")
    return seconds


def back_after(client: Recommender, workdir: Path, parent: str) -> float:
    """Seconds from a rollback, after events of new items, until the parent answers."""
    from tesserec.features.push import push_event

    user = "U000002"
    item = client.recommend(user_id=user, k=1, rules={"quota_new": 1}).item_ids[0]
    push_event(workdir, user, item, int(time.time()))
    assert item not in client.recommend(user_id=user, k=K, rules={"quota_new": 1}).item_ids
    began = time.monotonic()
    rollback(workdir)
    while (answer := client.recommend(user_id=user, k=K)).release_id != parent:
        if time.monotonic() - began > PATIENCE_S:
            raise SystemExit(f"{parent} doesn't answer after {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    seconds = round(time.monotonic() - began, 2)
    assert answer.source == "model" and len(answer.item_ids) == K
    print(f"  rolled back  {seconds:8.2f} s until the former release answered")
    return seconds


# ---- scale ----


def scale() -> dict[str, Any]:
    workdir, feed = WORK / f"table-{ITEMS}", WORK / f"new-{NEW}"
    base = million(workdir, feed, ITEMS, NEW)
    if promoted(workdir) != base:
        rollback(workdir)
    for kind in ("survey", "extension", "judgement", "handover"):
        for path in (workdir / "artifacts").glob(f"{kind}-*"):
            shutil.rmtree(path)
    arguments = ["--items", str(feed / "items.parquet")]
    told, took = encode(workdir, [*arguments, f"encoder.vectors={feed / 'vectors.npy'}"])
    print_steps(told, took)
    folders = [release_folder(workdir, r) for r in (base, told["release_id"])]
    full, delta = (sum(p.stat().st_size for p in f.rglob("*") if p.is_file()) for f in folders)
    print(f"  delta {delta / 2**20:.2f} MiB, whole {full / 2**20:.1f} MiB ({delta / full:.2%})")
    return {
        "items": ITEMS,
        "new": NEW,
        "seconds": told["seconds"],
        **took,
        "delta_bytes": delta,
        "whole_bytes": full,
        "share": delta / full,
        "delta": read_release(folders[1])["delta"],
    }


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    if "live" in PARTS:
        found["live"] = live()
    if "scale" in PARTS:
        found["scale"] = scale()
    (OUT / "encode.json").write_text(json.dumps({"machine": machine(), **found}, indent=1))
    bad = found.get("live", {})
    if bad.get("failed") or bad.get("codes_changed"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
