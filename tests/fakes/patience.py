"""A lookup for tests that compare answers: no store is late for them, however busy the machine."""

from __future__ import annotations

from dataclasses import replace

from tesserec.config import LookupSettings
from tesserec.serving.lookup import Lookup
from tesserec.serving.meter import Meter

PATIENT_MS = 10_000.0


def patient_lookup(settings: LookupSettings, meter: Meter) -> Lookup:
    return Lookup(replace(settings, budget_ms=PATIENT_MS), meter)
