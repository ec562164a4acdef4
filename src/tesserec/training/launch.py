"""Start the ranks of a training on this machine, and end all of them as soon as one fails.

The process that launches only watches: it holds no torch and is no rank, so nothing it waits for
can hang. A rank whose launcher is gone ends too: it waits for the end of its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tesserec import errors
from tesserec.errors import TesserecError

FOLDER = "TESSEREC_RANKS"  # environment: where ranks leave the message of the error that ended them
STORE = "TESSEREC_RANKS_STORE"  # environment: the file in which they meet
PEER_LOST = 75  # exit code of a rank that ended because another had
POLL_S = 0.05
GRACE_S = 5.0  # for the others to end by themselves, which names the first to fail


def launch(command: Sequence[str], processes: int) -> None:
    """Run `command` as so many ranks, and return when all have ended well.

    Raises:
        TesserecError: one failed or was killed; the others are ended before.
    """
    with tempfile.TemporaryDirectory(prefix="tesserec-ranks-") as folder:
        ranks = [_start(command, rank, processes, Path(folder)) for rank in range(processes)]
        try:
            _watch(ranks, Path(folder))
        finally:
            for rank in ranks:
                rank.kill()
            for rank in ranks:
                rank.wait()
                if rank.stdin:
                    rank.stdin.close()


def is_first() -> bool:
    """Whether this process is rank 0, or alone."""
    return os.environ.get("RANK", "0") == "0"


def run_rank(work: Callable[[], None]) -> None:
    """What a launched process does: `work`, and on an error its message to the launcher."""
    folder = os.environ.get(FOLDER)
    if folder is None:  # started by torchrun, which reports errors itself
        work()
        return
    threading.Thread(target=_end_with_launcher, daemon=True, name="end-with-launcher").start()
    try:
        work()
    except TesserecError as error:
        note = {"type": type(error).__name__, "message": str(error)}
        (Path(folder) / f"error-{os.environ['RANK']}.json").write_text(json.dumps(note))
        sys.stderr.flush()
        os._exit(error.exit_code)  # not through destructors that wait for the other ranks


def _start(
    command: Sequence[str], rank: int, processes: int, folder: Path
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        FOLDER: str(folder),
        STORE: str(folder / "store"),
        # both back ends listen on this interface alone
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
    }
    return subprocess.Popen(list(command), env=environment, stdin=subprocess.PIPE)


def _watch(ranks: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = None
    while True:
        codes = [rank.poll() for rank in ranks]
        if all(code == 0 for code in codes):
            return
        failed = {i: code for i, code in enumerate(codes) if code}
        causes = [i for i, code in failed.items() if code != PEER_LOST]
        if failed and deadline is None:
            deadline = time.monotonic() + GRACE_S
        if causes or (deadline and time.monotonic() > deadline):
            first = min(causes or failed)
            raise _failure(first, failed[first], len(ranks), folder)
        time.sleep(POLL_S)


def _failure(rank: int, code: int, ranks: int, folder: Path) -> TesserecError:
    note = folder / f"error-{rank}.json"
    who = f"process {rank} of {ranks} of the training"
    if note.exists():
        fields = json.loads(note.read_text())
        kind = getattr(errors, fields["type"], TesserecError)
        return kind(f"{who}: {fields['message']}")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit {code}"
    return TesserecError(
        f"{who} {how}; see its traceback above, if any. The same command goes on from the last "
        "checkpoint"
    )


def _end_with_launcher() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)
