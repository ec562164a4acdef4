"""The errors raised on purpose; a message says what happened, with which value, and what to do."""

from __future__ import annotations

from typing import Any


class TesserecError(Exception):
    """Something failed in a foreseen way; the command line prints the message and exits 1."""

    exit_code = 1


class UsageError(TesserecError):
    """The call or the configuration is wrong: unknown key, bad argument (exit 2)."""

    exit_code = 2


class DataError(TesserecError):
    """Input data break the data contract (exit 1)."""


class ArtifactError(TesserecError):
    """A folder is not finished, or its bytes are not those of its manifest (exit 1)."""


class GateFailed(TesserecError):
    """A gate said no (exit 3)."""

    exit_code = 3

    def __init__(self, message: str, artifact: Any = None) -> None:
        super().__init__(message)
        self.artifact = artifact  # the gate's own artefact, so that the report can show it


class ServingError(TesserecError):
    """The server or the online store did not answer as it should (exit 1)."""


class Overloaded(ServingError):
    """The server has too much to do for this request; it wasn't begun, and may be sent again."""


class RequestError(TesserecError):
    """One recommendation request is bad; it concerns that request alone (exit 2)."""

    exit_code = 2


def need(module: str, extra: str) -> TesserecError:
    """The error for a missing optional package: names the extra that brings it."""
    return UsageError(f"{module} is not installed; it comes with: pip install 'tesserec[{extra}]'")
