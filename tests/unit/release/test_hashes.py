"""Hashes of files are remembered, and a changed file is read again."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from tesserec.release import release_folder
from tests.fakes.release import tiny_release

verifying = importlib.import_module("tesserec.release.verify")


def test_files_are_read_again_only_if_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    hashed = verifying.sha256_of
    monkeypatch.setattr(
        verifying, "sha256_of", lambda path: (read.append(path.name), hashed(path))[1]
    )
    monkeypatch.setattr(verifying, "RACE_S", 0.0)
    hashes = verifying.Hashes()
    folder = release_folder(tmp_path, tiny_release(tmp_path))
    assert verifying.verify(folder, hashes) == [] and "model.safetensors" in read
    read.clear()
    assert verifying.verify(folder, hashes) == [] and read == []
    path = folder / "models" / "rpg" / "model.safetensors"
    stat, good = path.stat(), path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if nothing had happened
    assert any("other bytes" in problem for problem in verifying.verify(folder, hashes))
    assert read == ["model.safetensors"]
