"""What a feature store's folder says of itself, without opening Feast."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

CONFIG = "feature_store.yaml"
STATE = "state.json"


def read_state(folder: Path) -> dict[str, Any]:
    """What the feature store was last filled with; empty if never."""
    try:
        return json.loads((folder / STATE).read_text())
    except FileNotFoundError:
        return {}


def is_current(features_key: str, folder: Path) -> bool:
    """Whether the store was last filled with these features and still has its parts."""
    return read_state(folder).get("features") == features_key and is_same_store(folder)


def is_same_store(folder: Path) -> bool:
    """Whether the configured online store is the one that the state speaks of, and is there.

    A server (Redis) is taken to be there; one that lost its data is refilled after `state.json`
    is deleted.
    """
    if not (folder / CONFIG).is_file():
        return False
    text = (folder / CONFIG).read_text()
    online = yaml.safe_load(text)["online_store"]
    exists = "path" not in online or Path(online["path"]).is_file()
    return exists and read_state(folder).get("config") == hash_of(text)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
