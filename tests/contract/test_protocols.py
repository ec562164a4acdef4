"""Each method keeps to its seam."""

from __future__ import annotations

import inspect

import pytest

from tesserec.decoders.exhaustive import Exhaustive
from tesserec.encoders import ENCODERS
from tesserec.models import protocols
from tesserec.models.rpg import RPG
from tesserec.recommender import Recommender
from tesserec.tokenizers import TOKENIZERS
from tesserec.tokenizers.code_table import CodeTable

SEAMS = [
    *[(method, protocols.Encoder) for method in ENCODERS.values()],
    *[(method, protocols.Tokenizer) for method in TOKENIZERS.values()],
    (CodeTable, protocols.Table),
    (RPG, protocols.Model),
    (Exhaustive, protocols.Decoder),
    (Recommender, protocols.Recommends),
]


@pytest.mark.parametrize(("method", "seam"), SEAMS, ids=lambda c: c.__name__)
def test_it_takes_what_its_protocol_passes(method: type, seam: type) -> None:
    for name, asked in inspect.getmembers(seam, inspect.isfunction):
        if name.startswith("_"):
            continue
        given = inspect.signature(getattr(method, name)).parameters
        wanted = [p for p in inspect.signature(asked).parameters]
        assert list(given)[: len(wanted)] == wanted, name
        later = list(given.values())[len(wanted) :]
        assert all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in later), name


@pytest.mark.parametrize("table", [ENCODERS, TOKENIZERS])
def test_what_is_saved_can_be_loaded(table: dict[str, type]) -> None:
    assert all(callable(getattr(method, "load", None)) for method in table.values())
