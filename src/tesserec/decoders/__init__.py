"""Distributions -> ranked items that exist and are allowed; the table of decoders by name."""

from tesserec.decoders.making import DECODERS, make

__all__ = ["DECODERS", "make"]
