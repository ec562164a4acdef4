"""Several ranks train as one process does, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tesserec.errors import TesserecError, UsageError
from tesserec.training.distributed import world
from tesserec.training.launch import launch

RANK = Path(__file__).with_name("rank.py")


def train(folder: Path, processes: int, fault: str = "none") -> Path:
    folder.mkdir(exist_ok=True)
    launch([sys.executable, str(RANK), str(folder), str(processes), fault], processes)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by two ranks."""
    return train(tmp_path_factory.mktemp("two"), 2)


def steps(folder: Path) -> list[tuple[int, float]]:
    lines = [line.split() for line in (folder / "steps.txt").read_text().splitlines()]
    return [(int(step), float(loss)) for step, loss in lines]


def apart(one: Path, other: Path) -> dict[str, float]:
    """Relative difference of each tensor; "all": of all as one vector."""
    mine, theirs = load_file(one), load_file(other)
    assert mine.keys() == theirs.keys()
    pairs = {name: (mine[name], theirs[name]) for name in mine}
    whole = [torch.cat([pair[i].flatten() for pair in pairs.values()]) for i in range(2)]
    pairs["all"] = (whole[0], whole[1])
    return {name: float((a - b).norm() / a.norm()) for name, (a, b) in pairs.items()}


def test_ranks_train_as_one_process(tmp_path: Path, two: Path) -> None:
    one = train(tmp_path / "one", 1)
    for processes, many in ((2, two), (3, train(tmp_path / "three", 3))):
        first = Path("gradients", "first.safetensors")
        gradients = apart(one / first, many / first)
        assert gradients["all"] < 1e-6 and max(gradients.values()) < 3e-6, gradients
        for rank in range(processes):  # Adam makes much of gradients near 0: not tensor by tensor
            weights = apart(one / "weights-0.safetensors", many / f"weights-{rank}.safetensors")
            assert weights["all"] < 1e-6, weights
        losses = [[loss for _, loss in steps(folder)] for folder in (one, many)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)
        assert [step for step, _ in steps(one)] == [step for step, _ in steps(many)]


def test_torchrun_starts_them_too(tmp_path: Path, two: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    torchrun += ["--local-addr", "127.0.0.1", str(RANK), str(tmp_path), "2", "none"]
    subprocess.run(torchrun, check=True, timeout=300)
    for rank in range(2):
        name = f"weights-{rank}.safetensors"
        assert (tmp_path / name).read_bytes() == (two / name).read_bytes()


def test_all_ranks_stop_early_together(tmp_path: Path) -> None:
    train(tmp_path, 2, "stop")
    assert [line["epoch"] for line in json.loads((tmp_path / "history.json").read_text())] == [1, 2]


def test_a_killed_rank_ends_the_run_which_then_goes_on(tmp_path: Path, two: Path) -> None:
    with pytest.raises(TesserecError, match=r"process 1 of 2 .*killed by SIGKILL.*last checkpoint"):
        train(tmp_path / "cut", 2, "kill")
    assert time.time() - (tmp_path / "cut" / "killed").stat().st_mtime < 30
    pids = [int((tmp_path / "cut" / f"pid-{rank}").read_text()) for rank in range(2)]
    assert not any(alive(pid) for pid in pids)
    before = steps(tmp_path / "cut")[-1][0]
    resumed = train(tmp_path / "cut", 2, "kill")
    assert steps(resumed)[-1] == steps(two)[-1]
    began = [step for step, _ in steps(resumed)].index(before) + 1
    assert steps(resumed)[began][0] in (before, before + 1)  # it did not begin anew
    for name in ("weights-0.safetensors", "history.json"):
        assert (resumed / name).read_bytes() == (two / name).read_bytes()


def test_an_error_of_one_rank_is_that_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"process 0 of 2 .*a fault of its own"):
        train(tmp_path, 2, "raise")


def test_ranks_end_with_their_launcher(tmp_path: Path) -> None:
    read, write = os.pipe()
    launcher = (
        "import sys; from tesserec.training.launch import launch; "
        f"launch([sys.executable, '-c', {WAITING!r}], 2)"
    )
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=write)
    os.close(write)
    pids = [int(os.read(read, 32)) for _ in range(2)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def test_another_number_of_processes_than_configured_is_refused() -> None:
    alone = world(2, torch.device("cpu"))
    with pytest.raises(UsageError, match=r"training\.processes is 2, but .* started as 1"), alone:
        pass


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"  # one that ended, and that nobody has waited for yet


WAITING = """
import os, time
from tesserec.training.launch import run_rank
os.write(1, b"%-31d\\n" % os.getpid())
run_rank(lambda: time.sleep(600))
"""
