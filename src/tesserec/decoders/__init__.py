"""Distributions -> ranked items that exist and are allowed."""
