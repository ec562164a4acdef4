"""Wait until the running server of a workdir serves a release, or says why it doesn't."""

from __future__ import annotations

import time
from pathlib import Path

from tesserec.errors import ServingError
from tesserec.serving.status import server_status

POLL_S = 0.1


def await_release(workdir: Path, release_id: str, *, since: str, timeout_s: float) -> float | None:
    """Seconds until the server serves the promoted release; None if no server runs.

    `since`: when it was promoted, as the pointer tells; refusals from before don't count.

    Raises:
        ServingError: it refuses the release (the reason is in the message), or is not done in time.
    """
    began = time.monotonic()
    while True:
        status = server_status(workdir)
        if status is None:
            return None
        if status["serving"] == release_id:
            return time.monotonic() - began
        refused = [
            row
            for row in status["refused"]
            if row["release_id"] == release_id and row["at"] >= since
        ]
        if refused:
            raise ServingError(f"the server refuses release {release_id}: {refused[0]['reason']}")
        if time.monotonic() - began > timeout_s:
            raise ServingError(
                f"the server still serves {status['serving']} after {timeout_s:.0f} s, not "
                f"{release_id}; its log is named in {workdir}/serving/server.json"
            )
        time.sleep(POLL_S)
