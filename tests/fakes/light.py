"""Imported by a test's model.py inside Triton: the release manager then needs no Feast."""

from __future__ import annotations

import functools

from tesserec.serving import handler
from tests.fakes.patience import patient_lookup
from tests.fakes.release import FakeReader

handler.Manager = functools.partial(handler.Manager, reader=lambda _: FakeReader())
handler.Lookup = patient_lookup
