"""The suites by the name of the table that they check."""

from collections.abc import Callable

from tesserec.validation.suites import (
    codes,
    features,
    interactions,
    items,
    metrics,
    retokenization,
    vectors,
)
from tesserec.validation.suites.start import Suite

SUITES: dict[str, Callable[..., Suite]] = {
    "interactions": interactions.interactions,
    "items": items.items,
    "sequences": features.sequences,
    "user_history": features.user_history,
    "item_profile": features.item_profile,
    "item_stats": features.item_stats,
    "vectors": vectors.vectors,
    "codes": codes.codes,
    "codebooks": codes.codebooks,
    "quality": codes.quality,
    "against_popularity": metrics.against_popularity,
    "against_promoted": metrics.against_promoted,
    "slices": metrics.slices,
    "ledger": retokenization.ledger,
    "table": retokenization.table,
    "refresh": retokenization.refresh,
}

__all__ = ["SUITES", "Suite"]
