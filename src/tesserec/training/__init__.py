"""Fitting a model: packing, the loop, checkpoints."""
