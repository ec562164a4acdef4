"""The demo: run the pipeline, start Triton, ask it for three users' recommendations, stop it.

`python -m tesserec.demo CONFIG.yaml --workdir FOLDER [a.b=1 ...]`, or `make demo`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tesserec.cli.main import main as tesserec
from tesserec.cli.output import Output
from tesserec.errors import TesserecError
from tesserec.project import find_project

USERS = 3


def main() -> int:
    """Run the demo and return the exit code of its first command that failed."""
    parser = argparse.ArgumentParser(prog="python -m tesserec.demo", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--workdir", type=Path, required=True)
    options = parser.parse_intermixed_args()
    out = Output()
    start = time.monotonic()
    workdir: Path = options.workdir.resolve()
    code = tesserec(["run", str(options.config), *options.overrides, "--workdir", str(workdir)])
    if code:
        return code
    try:
        code = _ask_triton(workdir, out)
    except TesserecError as error:
        out.error(str(error))
        return error.exit_code
    newest = max((workdir / "reports").glob("*/report.html"), key=lambda p: p.parent.name)
    out.line(f"\nreport: {newest}")
    out.line(f"demo done in {time.monotonic() - start:.0f} s; Triton is stopped. Go on with:")
    for command in ("serve", "release list", "evaluate"):
        out.line(f"  {Path(sys.executable).parent / 'tesserec'} {command} --workdir {workdir}")
    return code


def _ask_triton(workdir: Path, out: Output) -> int:
    from tesserec.serving import triton

    out.note("starting Triton with the promoted release (some seconds: it imports Feast)")
    with triton.start(workdir, find_project()) as server:
        out.line(f"\nTriton {server.info['grpc']} serves release {server.info['release_id']}")
        codes = []
        for user in _example_users(workdir, server.info["release_id"]):
            out.line()
            codes.append(tesserec(["recommend", "--user", user, "--workdir", str(workdir)]))
    return max(codes)


def _example_users(workdir: Path, release_id: str) -> list[str]:
    """Three of the test users that the report shows as examples."""
    manifest: dict[str, Any] = json.loads(
        (workdir / "releases" / release_id / "manifest.json").read_text()
    )
    metrics = workdir / "artifacts" / f"metrics-{manifest['sources']['metrics']}"
    examples = json.loads((metrics / "examples.json").read_text())
    return [example["user_id"] for example in examples[:USERS]]


if __name__ == "__main__":
    sys.exit(main())
