"""One holder at a time; the lock dies with its holder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tesserec.errors import TesserecError
from tesserec.locks import exclusive

HOLDER = """
import sys, time, pathlib
from tesserec.locks import exclusive
with exclusive(pathlib.Path(sys.argv[1]), busy="busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(TesserecError, match=rf"busy \(process {holder.pid}\)"),
            exclusive(lock, busy="busy"),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with exclusive(lock, busy="busy"):
            pass
