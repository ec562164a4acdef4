"""Why an answer is short, degraded or made of something else: codes for machines, then words.

The output `reason` is `code: words`, several joined by `; `; a shortage comes first.
"""

from __future__ import annotations

# The codes are part of the contract (docs/rules.md); the words are for people and may change.
REASONS = {
    "rules_exhausted": "{found} of {wanted} items: the rules allow no more",
    "catalogue_exhausted": "{found} of {wanted} items: no more are there to be shown",
    "no_new_items": "{found} of {wanted} new items: no more are there to be shown",
    "features_missing": "the feature store {store}",
    "features_stale": "the feature store {store}, and what it said {age} s ago was used",
    "unknown_user": "unknown user",
    "history_used": "the request's history was used",
    "no_history": "no known item in the history: popular items",
    "history_unusable": "the model can't tell anything from these items: popular ones",
    "model_failed": "the model failed: popular items",
}


def reason(code: str, **values: int | str) -> str:
    """One part of the output `reason`."""
    return f"{code}: {REASONS[code].format(**values)}"


def codes_of(text: str) -> list[str]:
    """The codes of an answer's `reason`, in its order."""
    return [part.partition(":")[0] for part in text.split("; ") if part]
