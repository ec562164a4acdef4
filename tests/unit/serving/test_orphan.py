"""A stub ends with its server; other processes are left alone."""

from __future__ import annotations

import subprocess
import sys
import time

from tesserec.serving.orphan import die_with_server

NAME = "import ctypes; ctypes.CDLL(None).prctl(15, b'{}', 0, 0, 0)\n"  # PR_SET_NAME
STUB = NAME.format("triton_python_b") + (
    "import time\nfrom tesserec.serving.orphan import die_with_server\n"
    "die_with_server(); print('on', flush=True); time.sleep(60)"
)
SERVER = NAME.format("tritonserver") + (
    "import subprocess, sys\n"
    f"stub = subprocess.Popen([sys.executable, '-c', {STUB!r}], stdout=subprocess.PIPE)\n"
    "print(stub.stdout.readline().decode().strip(), stub.pid, flush=True); sys.stdin.read()"
)


def test_a_stub_whose_server_is_gone_already_ends() -> None:
    done = subprocess.run([sys.executable, "-c", STUB], capture_output=True, timeout=30)
    assert done.returncode == 1 and done.stdout == b""


def test_a_stub_ends_when_its_server_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        word, pid = server.stdout.readline().split()
        assert word == "on"
        server.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    raise AssertionError("the stub outlived its server")


def test_any_other_process_goes_on() -> None:
    die_with_server()
