"""The import direction of the rooms, and what may be imported where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tesserec"

# A room may import from rooms of a lower layer and from its own layer.
LAYERS: list[set[str]] = [
    {"errors", "config", "artifacts", "lineage", "locks", "progress", "project", "__init__"},
    {"data"},
    {
        "encoders",
        "tokenizers",
        "models",
        "decoders",
        "evaluation",
        "recommender",
        "opening",
        "tables",
    },
    {"training", "retokenization", "release"},
    {"features", "validation"},
    {"serving", "report"},
    {"steps"},
    {"cli", "demo"},
]
HOMES = {
    "apache_beam": {"features"},
    "feast": {"features"},
    "great_expectations": {"validation"},
    "kfp": set(),
    "tritonclient": {"serving"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "faiss": {"tokenizers"},
    "sklearn": {"encoders"},
    "numba": {"decoders"},
    "triton": {"decoders"},
}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def layer_of(room: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *[f"{node.module}.{a.name}" for a in node.names]]
    return found


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_from_below(path: Path) -> None:
    here = layer_of(room_of(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tesserec" and len(parts) > 1 and (SOURCE / parts[1]).exists():
            assert layer_of(parts[1]) <= here, f"{path.name} imports {name} from above"
        home = HOMES.get(parts[0])
        assert home is None or room_of(path) in home, f"{path.name} imports {name}"


def test_import_tesserec_is_quick_and_light() -> None:
    code = (  # processor time: how busy the machine is says nothing of what is imported
        "import sys, time; t = time.process_time(); import tesserec, tesserec.cli;"
        "heavy = {'torch', 'feast', 'apache_beam', 'kfp', 'great_expectations', 'pandas'};"
        "print(time.process_time() - t, sorted(heavy & set(sys.modules)))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert all(run.stdout.split(maxsplit=1)[1].strip() == "[]" for run in runs)
    assert min(float(run.stdout.split()[0]) for run in runs) < 0.3


def test_no_pickle_anywhere() -> None:
    for path in files():
        names = imports(path)
        assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(names), path
        assert "allow_pickle=True" not in path.read_text(), path


def test_every_page_that_the_readme_links_to_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 10 and all((ROOT / link).is_file() for link in links)
