"""A decoder by its name, for a model and its code table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from tesserec.errors import UsageError

log = logging.getLogger(__name__)
DECODERS = {
    "exhaustive": "tesserec.decoders.exhaustive:Exhaustive",
    "scan": "tesserec.decoders.scan:Scan",
    "scan_gpu": "tesserec.decoders.scan_gpu:ScanGPU",
    "graph": "tesserec.decoders.graph:GraphDecoder",
}
SCANS = {"cpu": "scan", "cuda": "scan_gpu"}  # by the kind of device
# libraries that may be absent
NEEDS = {"scan": "numba", "scan_gpu": "triton", "graph": "numba"}


def make(
    name: str,
    model: Any,
    codes: np.ndarray | None,
    *,
    aliases: Mapping[str, np.ndarray] | None = None,
    **options: Any,
) -> Any:
    """The decoder of that name, on the model's device.

    `auto` is the exact scan where it can be had (a model decoded by its codes, on a CPU with numba
    or a GPU with triton installed), else exhaustive. A model with a method `scorer()` is decoded by
    that scorer and not by codes. `aliases`: {rows, codes}, second codes of some items, which only
    exhaustive decoding adds up. `options` are those of `graph`.

    Raises:
        UsageError: an unknown name, or a decoder that needs codes, a library or a device where
            there is none.
    """
    by_codes = codes is not None and not hasattr(model, "scorer")
    device = next(model.parameters()).device
    if aliases is not None and codes is not None and by_codes and len(aliases["rows"]):
        from tesserec.decoders.aliases import AliasScorer  # torch: seconds, for a look at a release
        from tesserec.decoders.exhaustive import Exhaustive

        size = model.shape.codebook_size
        scorer = AliasScorer(codes, size, aliases["rows"], aliases["codes"])
        return Exhaustive(scorer).to(device)
    if name == "auto":
        fit = SCANS.get(device.type) if by_codes else None
        name = fit if fit is not None and _has(NEEDS[fit]) else "exhaustive"
    if name not in DECODERS:
        known = ", ".join(["auto", *DECODERS])
        raise UsageError(f"there is no decoder {name!r}; choose one of {known}")
    if name != "exhaustive" and not by_codes:
        raise UsageError(f"decoder {name} reads codes, which this model has not; take exhaustive")
    if name in NEEDS and not _has(NEEDS[name]):
        raise UsageError(
            f"decoder {name} needs {NEEDS[name]}; pip install {NEEDS[name]}, or take exhaustive"
        )
    module, _, attribute = DECODERS[name].partition(":")
    decoder = getattr(import_module(module), attribute)
    return decoder.of(model, codes, **(options if name == "graph" else {})).to(device)


@cache
def _has(library: str) -> bool:
    if find_spec(library) is not None:
        return True
    log.warning("%s isn't installed: decoding is exhaustive, exact and slower than a scan", library)
    return False
