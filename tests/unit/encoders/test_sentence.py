from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tesserec.encoders import ContentEncoder
from tesserec.encoders.sentence import Sentence, folder_hash
from tesserec.encoders.whitening import Whitening
from tesserec.errors import ArtifactError, UsageError

pytest.importorskip("sentence_transformers", reason="the extra 'sentence' is not installed")


def save_tiny_model(folder: Path, seed: int) -> str:
    """A randomly initialised BERT of 16 dimensions with a vocabulary of letters; no download."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    hf: Any = transformers  # its stubs lack some names

    base = folder / "base"
    base.mkdir(parents=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    digits = [str(n) for n in range(10)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ","]
    pieces = [*words, *letters, *digits, *(f"##{c}" for c in letters + digits)]
    (base / "vocab.txt").write_text("\n".join(pieces))
    hf.BertTokenizerFast(vocab_file=str(base / "vocab.txt")).save_pretrained(base)
    torch.manual_seed(seed)
    config = hf.BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    hf.BertModel(config).save_pretrained(base)
    word = Transformer(str(base), max_seq_length=32)
    pooling = Pooling(16)
    SentenceTransformer(modules=[word, pooling], device="cpu").save(str(folder / "model"))
    return str(folder / "model")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), 0)


def test_vectors_do_not_depend_on_batch_or_order(model: str, shop: pa.Table) -> None:
    encoder = Sentence(model, "cpu")
    encoder.fit(shop)
    whole = encoder.encode(shop)
    assert whole.shape == (120, 16) and whole.dtype == np.float32 and np.isfinite(whole).all()
    order = np.random.default_rng(0).permutation(120)
    shuffled = shop.take(order)
    parts = [encoder.encode(shuffled.slice(i, 11)) for i in range(0, 120, 11)]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_batches_of_one_length_agree_with_single_texts(model: str, shop: pa.Table) -> None:
    single, batched = Sentence(model, "cpu"), Sentence(model)
    expected = single.encode(shop)
    batched.device, batched._loaded = "cuda", single._loaded  # the way of a GPU, on the CPU
    np.testing.assert_allclose(batched.encode(shop), expected, atol=1e-5)


def test_saved_as_reference_and_hash(model: str, shop: pa.Table, tmp_path: Path) -> None:
    encoder = ContentEncoder(Sentence(model), Whitening(8))
    encoder.fit(shop)
    encoder.save(tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 10_000
    loaded = ContentEncoder.load(tmp_path)
    assert np.array_equal(loaded.encode(shop), encoder.encode(shop))


def test_other_weights_under_the_same_name_are_refused(
    model: str, shop: pa.Table, tmp_path: Path
) -> None:
    encoder = Sentence(model, "cpu")
    encoder.fit(shop)
    encoder.save(tmp_path)
    other = save_tiny_model(tmp_path / "other", 1)
    assert folder_hash(other) != folder_hash(model) != ""
    info = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps(info | {"model": other}))
    with pytest.raises(ArtifactError, match="build a new release"):
        Sentence.load(tmp_path)


def test_a_missing_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = str(tmp_path / "no" / "such")
    assert folder_hash(missing) == ""
    (tmp_path / "empty").mkdir()
    for name in (missing, str(tmp_path / "empty")):
        with pytest.raises(UsageError, match=r"cannot be opened.*encoder\.model"):
            Sentence(name).fit(pa.table({"item_id": ["a"]}))
