"""Great Expectations gates: suites in code, a function that runs them, verdicts without GX."""

from tesserec.validation.gate import run_gate
from tesserec.validation.verdict import Verdict, raise_if_failed, read_verdict

__all__ = ["Verdict", "raise_if_failed", "read_verdict", "run_gate"]
