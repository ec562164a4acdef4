"""A run's YAML: strict keys, typed values, overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tesserec.config import from_dict, load_config, to_dict
from tesserec.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_round_trip(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "name: x\ntraining: {epochs: 3}\n"), ["model.dim=64"])
    assert config.training.epochs == 3 and config.model.dim == 64
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainin: {}", "did you mean 'training'"),
        ("training: {epoch: 3}", "did you mean 'training.epochs'"),
        ("training: {epochs: many}", "training.epochs is 'many'; it takes int"),
        ("training: {epochs: 0}", "training.epochs is 0; use at least 1"),
        ("training: 3", "training is 3; it takes keys and values"),
        ("data: {source: mars}", "use one of generated"),
        ("data: {source: folder}", "name the folder"),
        ("encoder: {pca_dim: 100}", r"multiple of tokenizer.digits \(32\)"),
        ("model: {dropout: true}", "model.dropout"),
        ("features: {windows_days: [1, 14]}", r"windows_days is \[1, 14\]; use \[1, 7, 30\]"),
        ("name: a/b", "name is 'a/b'; use letters"),
        ("seed: -1", "seed is -1; use 0 or more"),
        ("training: {threads: 0}", "training.threads is 0; use at least 1"),
        ("model: {heads: 0}", "model.heads is 0; use at least 1"),
        ("model: {name: gru}", "model.name is 'gru'; use one of rpg, sasrec, fusion"),
        ("sasrec: {dim: 3}", "sasrec.dim is 3; use a multiple of sasrec.heads"),
        ("sasrec: {training: {epoch: 3}}", "did you mean 'sasrec.training.epochs'"),
        ("sasrec: {training: {epochs: 0}}", "sasrec.training.epochs is 0; use at least 1"),
        ("decoder: {name: beam}", "decoder.name is 'beam'; use one of auto"),
        ("decoder: {beam: 0}", "decoder.beam is 0; use at least 1"),
        ("{model: {name: fusion}, decoder: {name: scan}}", "fusion isn't decoded by codes"),
        ("gates: {max_loss: -1}", "gates.max_loss is -1.0; use a share"),
        ("serving: {rehearsal_users: 0}", "serving.rehearsal_users is 0; use at least 1"),
        ("- a", "write keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(write(tmp_path, text))


def test_sasrec_has_a_training_of_its_own(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "sasrec: {training: {epochs: 3}}"), ["training.epochs=5"])
    assert config.sasrec.training.epochs == 3 and config.training.epochs == 5
    assert config.sasrec.training.learning_rate > config.training.learning_rate
    assert from_dict(to_dict(config)) == config


def test_numbers_as_yaml_writes_them(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "training: {learning_rate: 1e-3, clip_norm: 2}"))
    assert config.training.learning_rate == 0.001 and config.training.clip_norm == 2.0


def test_data_path_is_relative_to_the_yaml(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data: {source: folder, path: shop}"))
    assert config.data.path == str(tmp_path / "shop")


def test_a_models_folder_is_relative_to_the_yaml_and_a_name_stays(tmp_path: Path) -> None:
    path = write(tmp_path, "encoder: {name: sentence, model: mini}")
    assert load_config(path).encoder.model == "mini"
    (tmp_path / "mini").mkdir()
    assert load_config(path).encoder.model == str(tmp_path / "mini")
    other = load_config(path, [f"encoder.model={tmp_path}/mini/../mini"])
    assert other.encoder.model == str(tmp_path / "mini")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no configuration .*nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["training.epochs", "=3", "name.x=3", "name=[1"])
def test_a_bad_override_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="override"):
        load_config(write(tmp_path, "name: a"), [text])


def test_every_key_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "configuration.md").read_text()

    def keys(tree: dict, prefix: str = "") -> list[str]:
        found = []
        for key, value in tree.items():
            nested = isinstance(value, dict) and key not in ("columns", "runner_options")
            nested = nested and key != "node_selector"
            if prefix + key == "sasrec.training":  # the keys of `training` over again
                continue
            found += keys(value, f"{prefix}{key}.") if nested else [prefix + key]
        return found

    missing = [k for k in keys(to_dict(from_dict({}))) if f"`{k}`" not in text]
    assert not missing
