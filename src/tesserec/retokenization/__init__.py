"""Keeping semantic IDs fresh: new items encoded, drift watched, codes moved within a budget."""
