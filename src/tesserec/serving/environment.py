"""The serving environment: where the Triton binary, its libraries and its Python stub are."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tesserec.errors import ServingError, UsageError

ENV = "TESSEREC_SERVE_ENV"
PROBE = """
import json, sys, sysconfig
from importlib.metadata import version
print(json.dumps({"site": sysconfig.get_paths()["purelib"],
                  "lib": sysconfig.get_config_var("LIBDIR"),
                  "python": "%d.%d" % sys.version_info[:2], "numpy": version("numpy")}))
"""


@dataclass(frozen=True)
class ServingEnvironment:
    """A virtual environment that holds nvidia-pytriton's server, numpy < 2, torch and Feast."""

    folder: Path
    site: Path  # site-packages
    library: Path  # folder of the interpreter's libpython
    python: str  # "3.11"

    @property
    def triton(self) -> Path:
        return self.site / "pytriton" / "tritonserver"

    @property
    def server(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The wheel ships one stub a Python version, none of them beside the backend."""
        return self.triton / "python_backend_stubs" / self.python / "triton_python_backend_stub"

    def variables(self) -> dict[str, str]:
        """The process environment of the server.

        The stub takes the interpreter's own libpython (LD_LIBRARY_PATH) and finds its packages by
        the first python3 on PATH; it ignores PYTHONPATH.
        """
        bundled = self.site / "nvidia_pytriton.libs"
        found = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {
            **found,
            "PATH": f"{self.folder / 'bin'}:{found.get('PATH', '')}",
            "LD_LIBRARY_PATH": f"{bundled}:{self.library}",
        }


def find_environment(project: Path) -> ServingEnvironment:
    """The environment that TESSEREC_SERVE_ENV names, else `<project>/.venv-serve`.

    Raises:
        UsageError: there is none.
        ServingError: it lacks the server, its stub, or has a numpy that the stub can't read.
    """
    folder = Path(os.environ.get(ENV) or project / ".venv-serve").absolute()
    python = folder / "bin" / "python"
    if not python.exists():
        raise UsageError(
            f"there is no serving environment {folder}; make it with `make install` in {project}, "
            f"or name one with {ENV}"
        )
    try:
        out = subprocess.run(
            [python, "-I", "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        detail = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise ServingError(f"{python} does not work: {detail}; run `make install`") from None
    facts = json.loads(out)
    found = ServingEnvironment(
        folder, Path(facts["site"]), Path(facts["lib"] or ""), facts["python"]
    )
    for path in (found.server, found.stub):
        if not path.is_file():
            raise ServingError(f"{folder} has no {path.name} ({path}); run `make install`")
    if int(facts["numpy"].split(".")[0]) >= 2:
        raise ServingError(
            f"{folder} has numpy {facts['numpy']}; this server reads numpy 1.26: run `make install`"
        )
    return found


def link_backend(environment: ServingEnvironment, folder: Path) -> Path:
    """Make a backend directory whose `python/` holds the library, its helper and the right stub."""
    source = environment.triton / "backends" / "python"
    target = folder / "python"
    target.mkdir(parents=True, exist_ok=True)
    for path in (
        source / "libtriton_python.so",
        source / "triton_python_backend_utils.py",
        environment.stub,
    ):
        link = target / path.name
        hidden = target / f".{path.name}.{os.getpid()}"
        hidden.unlink(missing_ok=True)
        hidden.symlink_to(path)
        os.replace(hidden, link)  # another server may be starting from this folder
    return folder
