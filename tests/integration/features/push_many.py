"""Several processes push events of one user: push_many.py WORKDIR USER PROCESSES EVENTS FIRST_TIME.

Feast is imported once; the processes are forks, each with its own store.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from pathlib import Path

import feast  # noqa: F401  # pyright: ignore[reportUnusedImport]
import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport]

from tesserec.features.push import push_event


def push(workdir: Path, user: str, process: int, events: int, first: int, processes: int) -> None:
    numbers = list(range(events))
    random.Random(process).shuffle(numbers)  # out of order, too
    for number in numbers:
        push_event(workdir, user, f"p{process}e{number}", first + number * processes + process)


def main() -> None:
    workdir, user, processes, events, first = sys.argv[1:]
    fork = multiprocessing.get_context("fork")
    children = [
        fork.Process(
            target=push,
            args=(Path(workdir), user, process, int(events), int(first), int(processes)),
        )
        for process in range(int(processes))
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(max(abs(child.exitcode or 0) for child in children))


if __name__ == "__main__":
    main()
