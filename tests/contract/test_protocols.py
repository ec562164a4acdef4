"""Each method keeps to its seam."""

from __future__ import annotations

import inspect

import pytest

from tesserec.config import models as settings
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scorers import CodeScorer, VectorScorer
from tesserec.encoders import ENCODERS
from tesserec.models import MODELS, protocols
from tesserec.models.fusion import FusionScorer
from tesserec.models.loading import model_class, parts_of
from tesserec.models.trainable import Trainable
from tesserec.recommender import Recommender
from tesserec.tokenizers import TOKENIZERS
from tesserec.tokenizers.code_table import CodeTable

SEAMS = [
    *[(method, protocols.Encoder) for method in ENCODERS.values()],
    *[(method, protocols.Tokenizer) for method in TOKENIZERS.values()],
    (CodeTable, protocols.Table),
    *[(model_class(name), protocols.Model) for name in MODELS],
    *[(scorer, protocols.Scorer) for scorer in (CodeScorer, VectorScorer, FusionScorer)],
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


def test_models_by_name() -> None:
    assert tuple(MODELS) == settings.MODELS
    for name in MODELS:
        assert model_class(name).name == name
        for part in parts_of(name):
            assert issubclass(model_class(part), Trainable)
            missing = Trainable.__dict__.keys() - {"__doc__", "__module__", "__annotations__"}
            own = vars(model_class(part))
            assert all(method in own for method in missing if not method.startswith("_"))
