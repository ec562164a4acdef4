"""A run's YAML into the dataclasses; unknown keys are refused by name."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tesserec.config.checks import check
from tesserec.config.serving import ServeSettings
from tesserec.config.stages import RunConfig
from tesserec.errors import UsageError


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's YAML and apply overrides of the form `a.b=value` (the value is YAML).

    A relative `data.path` is taken from the YAML's folder; as an override, from the current one;
    so is an `encoder.model` that is a folder there.

    Raises:
        UsageError: no such file, not YAML, an unknown key, or a value of the wrong type.
    """
    tree = _read(path)
    data, encoder = tree.get("data"), tree.get("encoder")
    if isinstance(data, dict) and data.get("path"):
        data["path"] = str((path.parent / str(data["path"])).resolve())
    if isinstance(encoder, dict) and encoder.get("model"):
        encoder["model"] = _model(path.parent, str(encoder["model"]))
    return change_config(tree, overrides)


def change_config(tree: Mapping[str, Any], overrides: Sequence[str]) -> RunConfig:
    """A RunConfig of nested dictionaries, with overrides as of `load_config`."""
    changed = copy.deepcopy(dict(tree))
    for key, value, text in _parsed(overrides):
        if key == "data.path" and value:
            value = str(Path(str(value)).resolve())
        if key == "encoder.model" and value:
            value = _model(Path(), str(value))
        _put(changed, key.split("."), value, text)
    return from_dict(changed)


def load_serve_settings(path: Path | None, overrides: Sequence[str] = ()) -> ServeSettings:
    """Read a server's YAML (None: the defaults) and apply overrides, as `load_config` does.

    Raises:
        UsageError: as `load_config`.
    """
    tree = _read(path) if path else {}
    for key, value, text in _parsed(overrides):
        _put(tree, key.split("."), value, text)
    return serve_settings(tree)


def serve_settings(tree: Mapping[str, Any]) -> ServeSettings:
    """ServeSettings of nested dictionaries (the inverse of `to_dict`)."""
    return _parse(ServeSettings, tree, "")


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise UsageError(f"there is no configuration {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    check(isinstance(tree, dict), str(path), type(tree).__name__, "write keys and values")
    return tree


def _parsed(overrides: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """Key, value and text of each `a.b=value`."""
    for text in overrides:
        key, equals, value = text.partition("=")
        check(bool(equals and key), "override", text, "write it as a.b=value")
        try:
            yield key, yaml.safe_load(value) if value else "", text
        except yaml.YAMLError as error:
            raise UsageError(f"override {text!r} has a value that is not YAML: {error}") from None


def _model(base: Path, name: str) -> str:
    """A model's folder as an absolute path (steps run elsewhere); the name of one as it is."""
    folder = base / name
    return str(folder.resolve()) if folder.is_dir() else name


def from_dict(tree: Mapping[str, Any]) -> RunConfig:
    """A RunConfig of nested dictionaries (the inverse of `to_dict`)."""
    return _parse(RunConfig, tree, "")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dictionaries, as JSON takes them."""
    return dataclasses.asdict(config)


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any, text: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        check(isinstance(tree, dict), "override", text, f"'{key}' holds a value, not keys")
    tree[keys[-1]] = value


def _parse(cls: type, tree: Any, where: str) -> Any:
    if not isinstance(tree, Mapping):
        raise UsageError(f"{where.rstrip('.')} is {tree!r}; it takes keys and values")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean '{where}{near[0]}'?" if near else f"; known: {', '.join(hints)}"
            raise UsageError(f"unknown key '{where}{key}'{hint}")
        values[key] = _value(hints[key], value, f"{where}{key}")
    return cls(**values)


def _value(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _parse(typing.cast(type, hint), {} if value is None else value, f"{key}.")
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{key} is {value!r}; it takes a list")
        return tuple(_value(typing.get_args(hint)[0], v, key) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UsageError(f"{key} is {value!r}; it takes keys and values")
        return dict(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-3 as a string
        try:
            value = float(value)
        except ValueError:
            raise UsageError(f"{key} is {value!r}; it takes a number") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    wrong = isinstance(hint, type | types.UnionType) and not isinstance(value, hint)
    if wrong or (hint is int and isinstance(value, bool)):
        raise UsageError(f"{key} is {value!r}; it takes {getattr(hint, '__name__', hint)}")
    return value
