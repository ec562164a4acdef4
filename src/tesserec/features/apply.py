"""The definitions of feature_repo/ in Feast's registry, and the store's configuration file."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView
from feast.data_source import DataSource

from tesserec.artifacts import fsync_folder, write_atomic
from tesserec.errors import UsageError
from tesserec.features.publish import OFFLINE
from tesserec.features.state import CONFIG
from tesserec.features.store import SERVICE, load_config, schema_hash

log = logging.getLogger(__name__)

MODULES = ("entities", "sources", "views", "services")


def render(template: Path, folder: Path) -> str:
    """Write folder/feature_store.yaml: the template with absolute paths. Returns its text.

    Addresses given as ${VARIABLE} stay as they are: they are read from the environment at every
    opening, and no password lands in a file.
    """
    if not template.is_file():
        raise UsageError(f"feature_store names {template}, which does not exist")
    tree = yaml.safe_load(template.read_text())
    for part in ("registry", "online_store"):
        path = tree[part].get("path")
        if path and "://" not in path and "$" not in path:
            tree[part]["path"] = str((folder / path).resolve())
    text = yaml.safe_dump(tree, sort_keys=False)
    target = folder / CONFIG
    if not target.is_file() or target.read_text() != text:
        write_atomic(target, text)
    return text


@contextmanager
def registry(folder: Path) -> Iterator[FeatureStore]:
    """A store whose registry may be written; readers see all of the changes at the end, or none.

    Feast writes a registry file in place; so the work is done on a copy that replaces it by a
    rename. A SQL registry has transactions of its own.
    """
    config = load_config(folder)
    if config.registry.registry_type != "file":
        yield FeatureStore(config=config)
        return
    final = Path(config.registry.path)
    scratch = final.with_name(f".{final.name}.new")
    scratch.unlink(missing_ok=True)
    if final.exists():
        shutil.copyfile(final, scratch)
    yield FeatureStore(config=load_config(folder, path=str(scratch)))
    with scratch.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(scratch, final)
    fsync_folder(final.parent)


def apply(store: FeatureStore, definitions: Path, folder: Path) -> str:
    """Apply the definition files to the store's registry. Returns the service's schema hash.

    Raises:
        UsageError: the service is in the registry with another schema; services are versioned.
    """
    objects = load_definitions(definitions, folder / OFFLINE)
    named = [o for o in objects if isinstance(o, FeatureService) and o.name == SERVICE]
    if not named:
        raise UsageError(f"{definitions} defines no feature service {SERVICE}")
    before, after = _known_hash(store), schema_hash(named[0])
    if before and before != after:
        raise UsageError(
            f"the definitions change the schema of {SERVICE} ({before} -> {after}); releases name "
            "it by that schema: add a new service beside it instead of editing it"
        )
    store.apply(objects, partial=True)
    return after


def load_definitions(definitions: Path, offline: Path) -> list[Any]:
    """Import feature_repo's files as the top-level modules that Feast takes them for.

    Returns their entities, sources, views and services. The modules are forgotten again, so that
    a second folder can be loaded in the same process.
    """
    found: list[Any] = []
    saved = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    before = os.environ.get("TESSEREC_OFFLINE")
    os.environ["TESSEREC_OFFLINE"] = str(offline.resolve())
    sys.path.insert(0, str(definitions))
    try:
        for name in MODULES:
            module = importlib.import_module(name)
            for value in vars(module).values():
                kinds = (Entity, DataSource, FeatureView, FeatureService)
                if isinstance(value, kinds) and not any(value is seen for seen in found):
                    found.append(value)
    except ModuleNotFoundError as error:
        raise UsageError(f"{definitions} lacks a definition file: {error}") from error
    finally:
        sys.path.remove(str(definitions))
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(saved)
        if before is None:
            del os.environ["TESSEREC_OFFLINE"]
        else:
            os.environ["TESSEREC_OFFLINE"] = before
    return found


def _known_hash(store: FeatureStore) -> str | None:
    from feast.errors import FeatureServiceNotFoundException

    try:
        return schema_hash(store.get_feature_service(SERVICE))
    except (FeatureServiceNotFoundException, FileNotFoundError):
        return None
