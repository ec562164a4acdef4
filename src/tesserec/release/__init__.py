"""Releases: build, verify, promote, roll back, list, prune."""

from tesserec.release.build import build_release
from tesserec.release.candidate import CANARY, SHADOW, try_release
from tesserec.release.manifest import read_release, release_folder
from tesserec.release.pointer import promote, promoted, read_pointer, rollback
from tesserec.release.prune import list_releases, prune
from tesserec.release.verify import require_sound, verify

__all__ = [
    "CANARY",
    "SHADOW",
    "build_release",
    "list_releases",
    "promote",
    "promoted",
    "prune",
    "read_pointer",
    "read_release",
    "release_folder",
    "require_sound",
    "rollback",
    "try_release",
    "verify",
]
