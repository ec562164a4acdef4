"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A crowded machine is no fault of the code: time is no criterion of a property test.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
