"""The errors that tesserec raises on purpose; each message says what happened, with which value, and what to do."""

from __future__ import annotations


class TesserecError(Exception):
    """Something failed in a way that we foresaw. The command line prints the message alone and exits 1."""

    exit_code = 1


class UsageError(TesserecError):
    """The call or the configuration is wrong (exit 2): unknown key, missing folder, bad argument."""

    exit_code = 2


class DataError(TesserecError):
    """Input data break the data contract (exit 1)."""


class ArtifactError(TesserecError):
    """A folder is not a finished artefact or release, or its bytes are not those of its manifest (exit 1)."""


class GateFailed(TesserecError):
    """A gate said no (exit 3)."""

    exit_code = 3


class ServingError(TesserecError):
    """The server or the online store did not answer as it should (exit 1)."""


class RequestError(TesserecError):
    """One recommendation request is bad; it concerns that request alone."""


def need(module: str, extra: str) -> TesserecError:
    """The error for a missing optional package: names the extra that brings it."""
    return UsageError(f"{module} is not installed; it comes with: pip install 'tesserec[{extra}]'")
