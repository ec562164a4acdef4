"""Parts of two releases are refused, even of one shape and under a consistent manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tesserec.artifacts import sha256_of, write_manifest
from tesserec.lineage import KEY, begin_lineage, bind_model, lineage_of, metadata
from tesserec.release import verify
from tesserec.release.manifest import parts_of, release_folder, release_id_of
from tests.fakes.release import tiny_release


def stamped(folder: Path) -> Path:
    """Hash everything anew, as somebody who puts a release together by hand would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    parts = manifest["parts"]

    def again(entries: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**e, "sha256": sha256_of(folder / e["path"])} for e in entries]

    for name, value in parts.items():
        if isinstance(value, dict):
            parts[name] = {m: again(files) for m, files in value.items()}
        else:
            parts[name] = again(value)
    tree = {
        n: {m: parts_of(f) for m, f in v.items()} if isinstance(v, dict) else parts_of(v)
        for n, v in parts.items()
    }
    service = manifest["feature_service"], manifest["feature_schema_hash"]
    release_id = release_id_of(tree, *service)
    for entries in [*(v for v in parts.values() if isinstance(v, list)), *parts["models"].values()]:
        for entry in entries:
            entry["release"] = release_id
    fields = {k: v for k, v in manifest.items() if k not in ("files", "content_hash")}
    write_manifest(folder, {**fields, "release_id": release_id, "parts": parts})
    return folder.rename(folder.with_name(release_id))


def lined(workdir: Path) -> Path:
    """A tiny release whose tokenizer, codes and model carry a lineage."""
    folder = release_folder(workdir, tiny_release(workdir))
    codes = load_file(folder / "codes/base-0000.safetensors")
    lineage = begin_lineage(folder / "tokenizer", codes["codes"])
    save_file(codes, folder / "codes/base-0000.safetensors", metadata=metadata(lineage))
    bind_model(folder / "models/rpg/model.json", lineage)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = {"release": "", "path": "tokenizer/lineage.json", "sha256": ""}
    manifest["parts"]["tokenizer"].append(entry)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return stamped(folder)


def test_parts_of_one_lineage_pass(tmp_path: Path) -> None:
    assert verify(lined(tmp_path)) == []


@pytest.mark.parametrize("part", ["model", "codes", "tokenizer"])
def test_a_part_of_another_lineage_is_named_with_both(tmp_path: Path, part: str) -> None:
    folder = lined(tmp_path)
    mine = lineage_of(folder / "tokenizer")
    if part == "model":
        bind_model(folder / "models/rpg/model.json", "f" * 16)
    elif part == "codes":
        codes = load_file(folder / "codes/base-0000.safetensors")
        path = folder / "codes/base-0000.safetensors"
        save_file(codes, path, metadata=metadata("f" * 16))
    else:
        (folder / "tokenizer/lineage.json").write_text(json.dumps({KEY: "f" * 16}))
    problems = verify(stamped(folder))
    assert problems and all("f" * 16 in p and str(mine) in p for p in problems)
    assert any(("model rpg" if part == "model" else "codes/base") in p for p in problems)


def test_a_lineage_is_named_by_tokenizer_and_codes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    codes = np.zeros((3, 2), np.uint8)
    first = begin_lineage(tmp_path, codes)
    assert begin_lineage(tmp_path, codes) == first == lineage_of(tmp_path)
    assert len({first, begin_lineage(tmp_path, codes + 1), begin_lineage(tmp_path)}) == 3
